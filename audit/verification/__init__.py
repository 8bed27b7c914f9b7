"""Verify, anchor and export audit logs. Imports `tenants` because it reads tenants' databases."""
