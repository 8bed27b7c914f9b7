"""Formats of dates and times, one module a language (Django names them so)."""
