"""Point-in-time restore: base backups and write-ahead logs of whole servers, and one tenant read out of a copy."""
