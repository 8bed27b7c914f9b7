"""Back up tenants: a dump of the database, a manifest, and optionally the files."""
