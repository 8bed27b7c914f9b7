"""Restore a tenant: load its data beside the live database, verify it, swap the databases, and undo."""
