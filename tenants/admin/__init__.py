"""Admin pages for tenants, servers, backups, migrations and erasures."""

from tenants.admin import backups, erasures, fleet, tenants  # noqa: F401  (each registers its pages)
