"""Tenants, their servers, backups, migrations and erasures, as staff see them."""

from tenants.admin import backups, erasures, fleet, tenants  # noqa: F401  (each registers its pages)
