"""Tenants that move: export, import, clone."""
