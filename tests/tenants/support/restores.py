"""What a restore leaves: an intact chain, and nothing that was needed only during the restore."""

from __future__ import annotations

import re

import psycopg

from audit.log.chain_check import chain_first_bad, chain_head
from audit.models import AuditLog
from tenants.models import Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of


def chain_is_whole(tenant: Tenant) -> bool:
    tenant.refresh_from_db()
    assert tenant.server is not None
    with owner_connection(tenant.server, database_of(tenant), "test") as connection:
        entries = AuditLog.objects.using(connection.alias)
        head = chain_head(connection)
        assert head is not None and head.sequence == entries.count()
        return chain_first_bad(connection, tenant.chain_identity or tenant.identity) is None


def scratch_things(server_url: str) -> list[str]:
    """Return the names of the scratch databases and roles of restores and checks; none may exist afterwards."""
    pattern = r"_(restore|check)_"
    with psycopg.connect(server_url) as connection:
        query = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles"
        return [name for (name,) in connection.execute(query) if re.search(pattern, name)]
