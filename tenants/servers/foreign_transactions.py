"""Prepared transactions that seo-gen did not create: they keep their locks until someone ends them."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connections
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.models import DatabaseServer, MigrationBatch, batch_of, database_prefix
from tenants.naming import owner_role
from tenants.servers.session import PreparedTransaction, ServerSession
from tenants.servers.session.locks import PREPARED


def foreign_beside_control() -> list[PreparedTransaction]:
    """Return the foreign prepared transactions in all databases of the control database's server.

    Uses only the connection to the control database.
    """
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(PREPARED)
        return _foreign(PreparedTransaction(*row) for row in cursor.fetchall())


def foreign_on(servers: Iterable[DatabaseServer]) -> list[PreparedTransaction]:
    """Return the foreign prepared transactions on `servers`; skip unreachable ones, which other checks report."""
    found: list[PreparedTransaction] = []
    for server in servers:
        try:
            with ServerSession(server, database_prefix(), "prepared") as server_session:
                found += server_session.prepared()
        except ServerError:
            continue
    return _foreign(found)


def sentence(one: PreparedTransaction) -> str:
    return _(
        "Prepared transaction %(gid)s in database %(database)s (%(role)s, prepared %(age_s)d s"
        " ago) does not belong to any batch of seo-gen, and it keeps its locks. End it in that database, as that role"
        " or a superuser, with COMMIT PREPARED or ROLLBACK PREPARED."
    ) % vars(one)


def _foreign(found: Iterable[PreparedTransaction]) -> list[PreparedTransaction]:
    # Any role can read the name of a batch's transaction, and choose a similar one.
    owner = owner_role(database_prefix())
    batches = {one: batch_of(one.gid) if one.role == owner else None for one in found}
    ids = {batch_id for batch_id in batches.values() if batch_id is not None}
    known = set(MigrationBatch.objects.using(CONTROL).filter(pk__in=ids).values_list("pk", flat=True))
    return [one for one, batch_id in batches.items() if batch_id not in known]
