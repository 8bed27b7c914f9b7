"""Which tenant migrations cannot be part of one transaction per tenant, and why. Asks no database."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.contrib.postgres.operations import NotInTransactionMixin
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunPython, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.utils.translation import gettext as _

from tenants.history import Key
from tenants.router import TENANT_APPS

# What PostgreSQL refuses inside a transaction, or in one that is to be prepared, or what would end it.
FORBIDDEN = re.compile(
    r"""^\s*(?:
        (?:create|drop)\s+(?:unique\s+)?index\s+concurrently
      | reindex\b.*\bconcurrently | reindex\s+(?:\(.*?\)\s*)?(?:database|system|schema)
      | vacuum | cluster\s*$ | alter\s+system | (?:create|drop)\s+(?:database|tablespace|subscription)
      | begin | start\s+transaction | commit | end | rollback | abort | prepare\s+transaction
      | listen | unlisten | notify | create\s+(?:local\s+|global\s+)?temp | alter\s+table\b.*\bdetach\b.*\bconcurrently
      | refresh\s+materialized\s+view\s+concurrently
    )(?:\b|$)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# What holds words that are not statements: comments, function bodies, strings, quoted names.
OPAQUE = re.compile(
    r"""--[^\n]*|/\*.*?\*/|(\$\w*\$).*?\1|'(?:[^']|'')*'|"[^"]*\"|\bbegin\s+atomic\b.*\bend\b""",
    re.DOTALL | re.IGNORECASE,
)


def untransactional(loader: MigrationLoader | None = None) -> dict[Key, str]:
    """Return {migration: why} of the tenant apps' migrations that cannot be applied all or nothing."""
    migrations = (loader or MigrationLoader(None)).disk_migrations
    found = {}
    for key, migration in sorted(migrations.items()):
        if key[0] in TENANT_APPS:
            reasons = [_("it says atomic = False")] if not migration.atomic else []
            reasons += [reason for operation in migration.operations for reason in _obstacles(operation)]
            if reasons:
                found[key] = reasons[0]
    return found


def _obstacles(operation: Operation) -> Iterator[str]:
    if isinstance(operation, SeparateDatabaseAndState):
        for inner in operation.database_operations:
            yield from _obstacles(inner)
    elif isinstance(operation, NotInTransactionMixin) or (
        isinstance(operation, RunPython) and operation.atomic is False
    ):
        yield _("%(operation)s runs outside transactions") % {"operation": type(operation).__name__}
    elif isinstance(operation, RunSQL):
        for statement in _statements(operation.sql):
            if FORBIDDEN.search(statement):
                words = " ".join(statement.split()[:4])
                yield _("its SQL cannot be part of a transaction that is prepared: %(statement)s …") % {
                    "statement": words
                }


def _statements(sql: object) -> Iterator[str]:
    """Yield the single statements of RunSQL's argument, without what they quote."""
    for part in [sql] if isinstance(sql, str) else sql:  # type: ignore[attr-defined]
        text = part if isinstance(part, str) else part[0]
        yield from OPAQUE.sub(" ", text).split(";")
