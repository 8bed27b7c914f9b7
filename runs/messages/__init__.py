"""Celery messages: wake-ups only. Their names, their form, and sending them."""
