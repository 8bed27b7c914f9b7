"""Point-in-time restore: base backups and WAL of whole servers, and one tenant read from a scratch copy."""
