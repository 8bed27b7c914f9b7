"""Files: the folders and buckets that backups are kept in, tenants' storage, encryption, tar, streams."""
