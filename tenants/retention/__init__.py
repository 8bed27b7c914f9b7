"""Removing what is past its time, and what happens every day."""
