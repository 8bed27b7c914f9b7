"""Find tenant migrations that cannot run in one transaction per tenant, and why. Uses no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from django.contrib.postgres.operations import NotInTransactionMixin
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunPython, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.utils.translation import gettext as _
from sqlparse.engine import FilterStack
from sqlparse.sql import Token
from sqlparse.tokens import Comment, Literal

from tenants.routing.router import TENANT_APPS
from tenants.schema.releases import Key

# First words of statements that PostgreSQL refuses to run in a transaction or to prepare, or that begin or end one.
FORBIDDEN = {
    *(("VACUUM",), ("LISTEN",), ("UNLISTEN",), ("NOTIFY",), ("ALTER", "SYSTEM")),
    *(("BEGIN",), ("COMMIT",), ("END",), ("ROLLBACK",), ("ABORT",)),
    *(("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")),
    *((verb, kind) for verb in ("CREATE", "DROP") for kind in ("DATABASE", "TABLESPACE", "SUBSCRIPTION")),
    *(("REINDEX", kind) for kind in ("DATABASE", "SYSTEM", "SCHEMA")),
    *(("CREATE", kind) for kind in ("TEMP", "TEMPORARY")),
}
# Words that can come between the first word and the second.
MODIFIERS = {"OR", "REPLACE", "LOCAL", "GLOBAL"}
SHOWN_WORDS = 4


def untransactional(loader: MigrationLoader | None = None) -> dict[Key, str]:
    """Return {migration: reason} for the tenant apps' migrations that cannot be applied all or nothing."""
    migrations = (loader or MigrationLoader(None)).disk_migrations
    found = {}
    for key, migration in sorted(migrations.items()):
        if key[0] in TENANT_APPS:
            reasons = [_("it sets atomic = False")] if not migration.atomic else []
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
        yield _("%(operation)s must run outside a transaction") % {"operation": type(operation).__name__}
    elif isinstance(operation, RunSQL):
        for part in [operation.sql] if isinstance(operation.sql, str) else operation.sql:
            for words in _forbidden_in(part if isinstance(part, str) else part[0]):
                yield _("its SQL cannot be part of a prepared transaction: %(statement)s …") % {"statement": words}


@cache
def _forbidden_in(sql: str) -> tuple[str, ...]:
    """Return the first words of each statement that is forbidden. Parsing is slow, so each text is parsed once."""
    forbidden = (statement for statement in _statements(sql) if _is_forbidden(statement))
    return tuple(" ".join(token.value for token in statement[:SHOWN_WORDS]) for statement in forbidden)


def _statements(sql: str) -> Iterator[list[Token]]:
    """Yield each statement as tokens, without comments."""
    for statement in FilterStack().run(sql):  # type: ignore[no-untyped-call]
        tokens = [token for token in statement.flatten() if not token.is_whitespace and token.ttype not in Comment]
        if tokens:
            yield tokens


def _is_forbidden(statement: Sequence[Token]) -> bool:
    # Quoted names and strings, such as function bodies, are not keywords.
    words = [word for token in statement if token.ttype not in Literal for word in token.normalized.upper().split()]
    if "CONCURRENTLY" in words:
        return True
    begins = [word for word in _without_parentheses(words) if word not in MODIFIERS]
    return tuple(begins[:1]) in FORBIDDEN or tuple(begins[:2]) in FORBIDDEN or begins == ["CLUSTER"]


def _without_parentheses(words: Iterable[str]) -> Iterator[str]:
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if not depth and word not in (")", ";"):
            yield word
