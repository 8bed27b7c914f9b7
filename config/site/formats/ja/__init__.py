"""Formats in Japanese."""
