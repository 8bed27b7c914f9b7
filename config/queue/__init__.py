"""Celery's broker and worker, hardened against malformed messages, and the schedule of beat."""
