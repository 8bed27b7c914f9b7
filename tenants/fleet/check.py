"""Check, before a batch changes anything, that each tenant's schema is the expected one and each server has room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.errors import MigrationFailed, ServerError
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.schema.catalog import named
from tenants.schema.drift import Group, drift_of, group, note_schemas
from tenants.schema.inspection import Look, look_at
from tenants.schema.releases import Release
from tenants.servers.session import ServerSession


def check_tenants(
    tenants: Sequence[Tenant], *, code: Release, work: str, workers: int, on_look: Callable[[str], None]
) -> tuple[list[Group], list[str]]:
    """Inspect every tenant, and store the findings in the control database.

    Returns the tenants by server and history, and every problem as a sentence. Calls `on_look`, and raises
    `ServerError`, as `look_at` does.
    """
    looks, errors = look_at(tenants, work=work, workers=workers, on_look=on_look)
    problems = [*errors, *_histories(code, looks)]
    try:
        groups = group(looks, code, work=work)
    except ServerError as error:
        groups, problems = [], [*problems, error]
    drift, unread = drift_of(groups, work=work)
    problems += unread
    for tenant_id, found in drift.items():
        reason = _("Its schema differs from what its migrations create: %(differences)s.") % {
            "differences": named(found)
        }
        problems.append(MigrationFailed(tenant_id, reason))
    unknown = {error.tenant_id for error in unread}
    note_schemas([look for look in looks if look.tenant.id not in unknown], code, drift)
    return groups, sorted(map(str, problems))


def full_servers(needed: Mapping[DatabaseServer, int], *, work: str) -> Iterator[str]:
    """Yield a sentence for each server that cannot be used for the batch.

    It may be unreachable, lack rights, or lack room for its `needed` number of prepared transactions.
    """
    for server, count in needed.items():
        try:
            with ServerSession(server, database_prefix(), work) as server_session:
                server_session.require_needed()
                maximum, used = server_session.prepared_capacity()
        except ServerError as error:
            yield str(error)
            continue
        if used + count > maximum:
            yield ngettext(
                "Database server %(name)s can hold %(maximum)d prepared transaction (%(used)d in use), but this"
                " batch needs %(needed)d: set max_prepared_transactions to at least %(wanted)d in its postgresql.conf"
                " and restart it.",
                "Database server %(name)s can hold %(maximum)d prepared transactions (%(used)d in use), but this"
                " batch needs %(needed)d: set max_prepared_transactions to at least %(wanted)d in its postgresql.conf"
                " and restart it.",
                maximum,
            ) % {"name": server.name, "maximum": maximum, "used": used, "needed": count, "wanted": used + count}


def _histories(code: Release, looks: Sequence[Look]) -> Iterator[MigrationFailed | ServerError]:
    for look in looks:
        problem = code.problem(look.history)
        if problem:
            yield MigrationFailed(look.tenant.id, problem)
