"""Point-in-time restore: base backups and WAL of whole servers, and scratch copies from which one tenant is read."""
