"""Admin pages for tenants, servers, backups, migrations, erasures, requested operations, approvals and access."""

from tenants.admin import (  # noqa: F401  (each registers its pages)
    approvals,
    backups,
    erasures,
    fleet,
    operations,
    temporary_access,
    tenants,
)
