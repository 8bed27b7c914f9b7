"""Celery's broker and worker as we use them: what is taken from the queue, and what is not."""
