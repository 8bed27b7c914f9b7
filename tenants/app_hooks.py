"""Hooks through which this app handles what the apps above it store about a tenant, as in backups and erasures.

The apps register their hooks when Django starts (`runs.apps`), since this app may not import them. They also register
the functions that carry out operations on their tables that staff request. The `alias` that a method of `Contents`
takes belongs to a connection made as the owner (`tenants.routing.owner_connection`). Such a method must name the
columns that it reads: the database may be older than the code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string


@dataclass(frozen=True)
class FileRef:
    """A file in the storage that a row refers to."""

    path: str
    # sha256, lower-case hexadecimal; None if the row has none.
    digest: str | None
    size_bytes: int | None


@dataclass(frozen=True)
class ForeignPath:
    """A row whose path is not one of its tenant's files."""

    table: str
    # Its primary key.
    row: str
    path: str


@dataclass(frozen=True)
class RunDifferences:
    """Ids of the runs that only the replaced database has, only the restored one, or both with different statuses."""

    lost: list[str]
    returned: list[str]
    changed: list[str]


class Contents(Protocol):
    def files(self, alias: str) -> Iterable[FileRef]:
        """Return every file that a row refers to."""

    def foreign_path(self, connection: BaseDatabaseWrapper, tenant_id: str) -> ForeignPath | None:
        """Return the first row whose path is not in the tenant's storage; None if there is none.

        Unlike the other methods, this one reads a database that is not trusted yet. It is called in a transaction,
        inside `audit.log.safe_search_path.catalog_only`, and must use qualified names only.
        """

    def waiting(self, alias: str) -> list[str]:
        """Return the ids of the runs that are waiting for their first worker."""

    def statuses(self, alias: str, runs: Collection[str]) -> dict[str, str]:
        """Return {run id: status} for those of `runs` that exist."""

    def unended(self, alias: str) -> list[str]:
        """Return the ids of the runs that may still write files."""

    def compare(self, alias: str, replaced_alias: str) -> RunDifferences:
        """Return how the runs of a restored database differ from those of the one that it replaced."""

    def settle(self, alias: str, *, reason: str, number: int, replaced: Mapping[str, str] | None) -> list[str]:
        """Mark runs that were in progress, or may have continued elsewhere, as failed with `reason`; return their ids.

        `number` must be higher than in earlier calls for the tenant, so that claims from its other databases become
        invalid. `replaced` is {run id: status} from the database that this one replaces; None for a clone or an import,
        in which all pending runs fail too.
        """

    def move(self, alias: str, old_prefix: str, new_prefix: str) -> None:
        """Make the rows refer to the same files under another prefix."""

    def at_work(self, alias: str) -> list[str]:
        """Return the ids of the runs that a worker is processing right now."""

    def summarize(self, tenant_id: str, alias: str) -> None:
        """Rebuild the control database's rows about the tenant's runs and costs from the tenant's. Safe to repeat."""

    def erase_summaries(self, tenant_id: str) -> int:
        """Delete the control database's rows about the tenant's runs and costs; return how many there were."""

    def spent_this_month(self, tenant_id: str) -> Decimal | None:
        """Return the tenant's cost this month (UTC) from the control database; None if none is recorded."""

    def count_summaries(self, tenant_id: str) -> int:
        """Return the number of the control database's rows about the tenant's runs and costs."""

    def control_tables(self) -> Collection[str]:
        """Return the names of the control database's tables that hold summaries of tenants' runs and costs."""

    def drop_messages(self, tenant_id: str, alias: str) -> int | None:
        """Remove the tenant's queued wake-ups for missing runs; return their number, or None if it is unknown."""

    def erase_messages(self, tenant_id: str) -> int | None:
        """Remove all messages and waiting steps of the tenant, including those that workers hold; return their number.

        Returns None if the broker cannot list messages. Raises a `SeoGenError` if the broker or the cache server does
        not answer.
        """

    def count_messages(self, tenant_id: str) -> int | None:
        """Return what `erase_messages` would return now, without removing anything. Raises the same errors."""


_registered: list[str] = []


def register(dotted_path: str) -> None:
    """Register a class that implements `Contents`; it is imported on first use."""
    _registered.append(dotted_path)


@cache
def contents() -> Contents:
    """Return an instance of the registered class."""
    [only] = _registered
    made: Contents = import_string(only)()
    return made


# Called with the step that was reached, how many are done, and how many there are.
OnStep = Callable[[str, int, int], None]


class Operation(Protocol):
    def __call__(self, *, tenant_id: str, arguments: Mapping[str, Any], on_step: OnStep) -> dict[str, Any]:
        """Carry out what staff requested, and return the result to store: ids, versions and counts, never content."""


_operations: dict[str, str] = {}


def register_operation(kind: str, dotted_path: str) -> None:
    """Register the function, an `Operation`, that carries out a kind of request; it is imported on first use."""
    _operations[kind] = dotted_path


def operation(kind: str) -> Operation:
    """Return the function that is registered for the kind."""
    found: Operation = import_string(_operations[kind])
    return found
