"""Celery messages, which are only wake-ups: task names, format and sending."""
