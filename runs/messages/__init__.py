"""Celery messages: task names, the format that workers accept, a size limit, and sending wake-ups."""
