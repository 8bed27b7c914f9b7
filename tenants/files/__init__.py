"""Files: folders and buckets for backups, tenants' storage, encryption, tar files and streams."""
