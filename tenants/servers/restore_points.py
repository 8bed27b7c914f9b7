"""Restore points in a server's write-ahead log, created before something that could not otherwise be undone.

Recovery to a time stops before the first commit after it. DROP DATABASE removes the files before it commits, so without
a commit between the time and the drop, the files would be gone. That is why we commit (a heartbeat) before and after
each restore point.
"""

from __future__ import annotations

import uuid

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import DatabaseServer, RestorePoint, database_prefix
from tenants.servers.session import ServerSession

# PostgreSQL's limit; tenant ids are ASCII.
NAME_BYTES = 63


def restore_point(server: DatabaseServer, *, reason: str, tenant_id: str = "") -> RestorePoint | None:
    """Create a restore point on the server, and record it; `reason` is one word for what comes next, such as "delete".

    Returns None if the server's administrator may not create one (neither a superuser nor granted
    `pg_create_restore_point`), or if the server is in recovery or its wal_level is minimal. Raises `ServerError`
    if the server cannot be reached, or rejects a statement.
    """
    name = _name(reason, tenant_id)
    with ServerSession(server, database_prefix(), "restore point") as server_session:
        if not server_session.may_mark():
            return None
        server_session.heartbeat()
        lsn, created_at = server_session.create_restore_point(name)
        server_session.heartbeat()
    with transaction.atomic(using=CONTROL):
        point = RestorePoint.objects.using(CONTROL).create(
            server=server, name=name, lsn=lsn, reason=reason, tenant_id=tenant_id, created_at=created_at
        )
        details: dict[str, object] = {"name": name, "lsn": lsn, "reason": reason, "tenant": tenant_id or "*"}
        record(
            using=CONTROL,
            action="cluster.restore_point",
            resource_type="database_server",
            resource_id=server.name,
            details=details,
        )
    return point


def _name(reason: str, tenant_id: str) -> str:
    unique = uuid.uuid4().hex[:8]
    words = " ".join(word for word in ("seo-gen", reason, tenant_id) if word)
    return f"{words[: NAME_BYTES - len(unique) - 1]} {unique}"
