"""Real tenants for tests, each with its own database and role, removed when the test ends."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections as django_connections
from psycopg import sql
from pytest_django import Settings

from config.stack.process import wait_until
from tenants.lifecycle.create import tenant_create
from tenants.models import Tenant, database_prefix
from tenants.naming import TENANT_PREFIX
from tenants.routing import pool
from tenants.servers.session import ServerSession, parse_location
from tenants.servers.session.base import SUPERUSERS_IN

MakeTenant = Callable[..., Tenant]


@pytest.fixture
def make_tenant() -> Iterator[MakeTenant]:
    """Yield a function that calls `tenant_create` but needs no name; remove the tenants after the test."""
    made: list[Tenant] = []

    def make(**keywords: Any) -> Tenant:
        with cloning_fast():
            tenant = tenant_create(**{"name": f"test {uuid.uuid4().hex[:12]}", **keywords})
        made.append(tenant)
        return tenant

    yield make
    for tenant in made:
        remove(tenant)


@pytest.fixture
def tenant(make_tenant: MakeTenant) -> Tenant:
    return make_tenant()


@pytest.fixture
def tenant_pair(make_tenant: MakeTenant) -> tuple[Tenant, Tenant]:
    return make_tenant(), make_tenant()


@contextmanager
def cloning_fast() -> Iterator[None]:
    """Let PostgreSQL copy the template's files instead of its pages through the log.

    This is fast on a server whose checkpoints cost nothing. test_unfinished.py tests creation without it.
    """

    def clone(self: ServerSession, template: str, name: str) -> None:
        statement = "CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy ALLOW_CONNECTIONS false"
        self._execute(sql.SQL(statement).format(*map(sql.Identifier, (name, self.owner, template))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerSession, "clone", clone)
        yield


def remove(tenant: Tenant) -> None:
    """Drop a tenant's database and role, and delete its row. Unlike an erasure, this leaves its files and backups."""
    location = parse_location(tenant.database_url)
    pool.pool.discard(tenant.alias)
    if tenant.server is not None:
        with ServerSession(tenant.server, database_prefix()) as server_session:
            # A superuser's session, which we cannot end, may be about to end.
            wait_until(lambda: not server_session._rows(SUPERUSERS_IN, [location.database]), 10)
            server_session.drop_database(location.database)
            server_session.drop_role(location.role)
    Tenant.objects.filter(pk=tenant.pk).delete()


def remove_all(tenant_ids: list[str]) -> None:
    """Remove those of the tenants that still exist."""
    for tenant in Tenant.objects.filter(pk__in=tenant_ids):
        remove(tenant)


@pytest.fixture
def limits(settings: Settings) -> Callable[..., None]:
    """Return a function that changes the limits of tenant sessions that are opened afterwards; its arguments are fields
    of `Limits`.
    """

    def change(**changes: float) -> None:
        settings.DATABASE_LIMITS = replace(settings.DATABASE_LIMITS, **changes)
        for alias in [alias for alias in django_connections.settings if alias.startswith(TENANT_PREFIX)]:
            pool.return_connection(alias)
            pool.pool.discard(alias)
            del django_connections.settings[alias]

    return change
