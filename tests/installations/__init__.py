"""Installations as releases left them, and how to bring one to life (README.md)."""
