"""Restoring a tenant: load beside the live database, prove, swap, undo."""
