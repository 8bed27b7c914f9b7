"""The tenants' objects on the main server, and ids that no tenant has."""

from __future__ import annotations

import uuid

import psycopg

from tenants.models import DatabaseServer, database_prefix


def tenants_objects(name: str = "[0-9a-f]{16}") -> list[str]:
    """Return the tenants' databases and roles on the main server, or the database and the role with that name."""
    query = """
        SELECT datname FROM pg_database WHERE datname ~ %(name)s
        UNION ALL
        SELECT rolname FROM pg_roles WHERE rolname ~ %(name)s
        ORDER BY 1
    """
    pattern = f"^({database_prefix()}_)?{name}$"
    with psycopg.connect(DatabaseServer.objects.get(pk="main").admin_url) as connection:
        return [row[0] for row in connection.execute(query, {"name": pattern})]


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"
