"""Databases into which untrusted dumps are loaded.

A dump is code. It is loaded and read by a separate login role that owns nothing but the scratch database. Ownership
passes to the owner only after the schema is verified (docs/adr/0009-backup-and-restore.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from config.base.databases import CONTROL
from tenants.errors import ServerError, TenantError
from tenants.models import DatabaseServer, database_prefix
from tenants.operations import advisory_lock
from tenants.servers.session import ServerSession


def scratch_name(operation_id: UUID) -> str:
    return f"{scratch_prefix()}{operation_id.hex[:12]}"


def scratch_prefix() -> str:
    return f"{database_prefix()}_restore_"


def kept_name(operation_id: UUID) -> str:
    """Return the name under which a restore keeps the database that it replaces."""
    return f"{database_prefix()}_kept_{operation_id.hex[:12]}"


def throwaway_prefix() -> str:
    """Return the name prefix of databases that are only used to test a restore."""
    return f"{database_prefix()}_check_"


@contextmanager
def throwaway(server_session: ServerSession) -> Iterator[Scratch]:
    """Yield a scratch database and drop it afterwards; `drop_throwaways` drops those left by killed processes."""
    name = throwaway_prefix() + uuid4().hex[:12]
    with _lock(name):
        scratch = Scratch(server_session, name, name)
        try:
            yield scratch
        finally:
            scratch.drop()


def drop_throwaways() -> None:
    """Drop throwaway databases, and their roles, that killed processes left on any server.

    Servers that are unreachable now are skipped.
    """
    for server in DatabaseServer.objects.using(CONTROL):
        with suppress(ServerError), ServerSession(server, database_prefix(), "scratch") as server_session:
            prefix = throwaway_prefix()
            for name in {*server_session.databases_named(prefix), *server_session.roles_named(prefix)}:
                with suppress(ScratchBusy), _lock(name):
                    Scratch(server_session, name, name).drop()


class ScratchBusy(TenantError):
    """Another process is using the scratch database."""

    code = "scratch_busy"


def _lock(name: str) -> AbstractContextManager[None]:
    return advisory_lock(f"seo-gen:scratch:{name}", wait_s=0.1, busy=lambda: ScratchBusy(name))


@dataclass(frozen=True)
class Scratch:
    """A scratch database, and the guest role that owns it until it is handed over."""

    server_session: ServerSession
    database: str
    guest: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """Return the database's URL, with the guest's name and password."""
        return self.server_session.location(self.guest, self.password, database=self.database).url

    def create(self) -> None:
        """Create the guest and its empty database, replacing any that a previous attempt left."""
        self.server_session.prepare()
        self.server_session.drop_database(self.database)
        self.server_session.ensure_guest(self.guest, self.password)
        self.server_session.create_empty_database(self.database)
        self.server_session.lend(self.database, self.guest)

    def hand_over(self) -> None:
        """Transfer ownership of everything to the owner and drop the guest."""
        self.server_session.hand_over(self.database, self.guest)
        self.server_session.drop_guest(self.guest)

    def settle(self) -> int:
        """End sessions and roll back prepared transactions that the dump left; return the number of these transactions.

        The guest can log in again afterwards.
        """
        self.server_session.end_guest(self.guest)
        self.server_session.let_guest_in(self.database, self.guest, self.password)
        return self.server_session.roll_back_as_guest(self.database, self.guest, self.password)

    def drop(self) -> None:
        """Drop the database and the guest, whatever state a killed process left them in."""
        exists = self.server_session.database_exists(self.database)
        if exists and self.server_session.role_exists(self.guest):
            self.settle()
        self.server_session.drop_database(self.database)
        self.server_session.drop_guest(self.guest)
