"""Databases in which a dump is loaded before anybody relies on it.

A dump is code. It is loaded, and read, by a login role of its own that owns nothing but that database; only when its
schema is proven to be ours does it become the owner's (docs/adr/0009-backup-and-restore.md).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from uuid import UUID

from tenants.cluster import Cluster
from tenants.models import database_prefix


def scratch_name(operation_id: UUID) -> str:
    return f"{scratch_prefix()}{operation_id.hex[:12]}"


def scratch_prefix() -> str:
    return f"{database_prefix()}_restore_"


def kept_name(operation_id: UUID) -> str:
    """Name what a restore replaces."""
    return f"{database_prefix()}_kept_{operation_id.hex[:12]}"


@dataclass(frozen=True)
class Scratch:
    """A database and the guest that owns it for the time being."""

    cluster: Cluster
    database: str
    guest: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """The database's, as the guest."""
        return self.cluster.location(self.guest, self.password, database=self.database).url

    def create(self) -> None:
        """Make the database, empty, whatever a predecessor left."""
        self.cluster.prepare()
        self.cluster.drop_database(self.database)
        self.cluster.ensure_guest(self.guest, self.password)
        self.cluster.create_empty_database(self.database)
        self.cluster.lend(self.database, self.guest)

    def hand_over(self) -> None:
        """Make all of it the owner's; the guest is gone then."""
        self.cluster.hand_over(self.database, self.guest)
        self.cluster.drop_guest(self.guest)

    def drop(self) -> None:
        self.cluster.drop_database(self.database)
        self.cluster.drop_guest(self.guest)
