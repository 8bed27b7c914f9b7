"""Migrating all tenants, or none."""
