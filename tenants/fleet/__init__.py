"""Migrate all tenants or none."""
