"""Verifying, anchoring and exporting audit logs. Imports `tenants`, because it reads their databases."""
