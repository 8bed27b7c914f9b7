"""What the apps above this one keep in a tenant's database, as far as backups and restores must know.

They register it when Django starts (`runs.apps`), since nothing here may import them. Each method gets the alias of a
connection as the owner (`tenants.routing.owner_connection`), and names its columns: the database may be older than
the code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string


@dataclass(frozen=True)
class FileRef:
    """A file in the storage that a row refers to."""

    path: str
    # sha256, lower-case hexadecimal; None where the row has none.
    digest: str | None
    size_bytes: int | None


@dataclass(frozen=True)
class ForeignPath:
    """A row that refers to something else than a file of its tenant's."""

    table: str
    # Its primary key.
    row: str
    path: str


@dataclass(frozen=True)
class RunDifferences:
    """Ids of runs: only in the replaced database, only in the restored one, and in both with different statuses."""

    lost: list[str]
    returned: list[str]
    changed: list[str]


class Contents(Protocol):
    def files(self, alias: str) -> Iterable[FileRef]:
        """Return every file that some row refers to."""

    def foreign_path(self, connection: BaseDatabaseWrapper, tenant_id: str) -> ForeignPath | None:
        """Return the first row whose path is not one that the tenant's storage gives, None where all are.

        Unlike the others, for a database that is not trusted yet: inside `audit.log.safe_search_path.catalog_only`, in
        a transaction, and nothing is read but columns by their qualified names.
        """

    def waiting(self, alias: str) -> list[str]:
        """Return the ids of the runs that wait for their first worker."""

    def statuses(self, alias: str, runs: Collection[str]) -> dict[str, str]:
        """Return {run id: status} of those of `runs` that exist."""

    def unended(self, alias: str) -> list[str]:
        """Return the ids of the runs that may still write files."""

    def compare(self, alias: str, replaced_alias: str) -> RunDifferences:
        """Compare the runs of a restored database with those of the one that it replaced."""

    def settle(self, alias: str, *, reason: str, number: int, replaced: Mapping[str, str] | None) -> list[str]:
        """Fail, for `reason`, the runs that were at work or that went on elsewhere, and return their ids.

        `number` is that of the tenant's databases that this one is: claims in earlier ones become invalid. `replaced`
        is {run id: status} of the one that it replaces; None for a copy, in which nothing goes on by itself.
        """

    def move(self, alias: str, old_prefix: str, new_prefix: str) -> None:
        """Let the rows refer to the same files under another prefix."""

    def at_work(self, alias: str) -> list[str]:
        """Return the ids of the runs that a worker is at work on right now."""

    def drop_messages(self, tenant_id: str, alias: str) -> int | None:
        """Remove the tenant's queued wake-ups for runs that do not exist; None where the broker does not show any."""

    def erase_messages(self, tenant_id: str) -> int | None:
        """Remove every message about the tenant, those in workers' hands too; None where the broker shows none."""

    def count_messages(self, tenant_id: str) -> int | None:
        """Return how many messages about the tenant there are; None where the broker does not show any."""


_registered: list[str] = []


def register(dotted_path: str) -> None:
    """Register a class of `Contents`, which is imported where it is first needed."""
    _registered.append(dotted_path)


@cache
def contents() -> Contents:
    """Return an instance of what was registered."""
    [only] = _registered
    made: Contents = import_string(only)()
    return made
