"""Celery's broker and worker, hardened against malformed messages, and beat's schedule."""
