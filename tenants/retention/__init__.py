"""Daily backups, and the removal of what has expired."""
