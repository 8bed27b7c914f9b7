"""Installations as past releases left them, and how to revive one (README.md)."""
