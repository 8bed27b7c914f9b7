"""Formats of dates and times: one package per language, named as Django expects."""
