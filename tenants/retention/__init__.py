"""Daily backups, and removal of what has expired."""
