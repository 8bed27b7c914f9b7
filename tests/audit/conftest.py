"""Both audit logs, accessed as the application's role and as a superuser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from tests.support.superuser import superuser_url

if TYPE_CHECKING:
    from tenants.models import Tenant

INSERT = "INSERT INTO {} (user_id, action, resource_type, resource_id) VALUES ('operator:ann', 'x', 'tenant', 'y')"


@dataclass(frozen=True)
class Log:
    """An audit log: its tables, the URLs of its database, and the hash that its chain starts from."""

    table: str
    head: str
    app_url: str
    superuser_url: str
    genesis: str

    def as_app(self) -> psycopg.Connection:
        return psycopg.connect(self.app_url)

    def as_superuser(self) -> psycopg.Connection:
        return psycopg.connect(self.superuser_url)

    @property
    def insert(self) -> str:
        """Return plain SQL that inserts an entry, naming only columns of the specification."""
        return INSERT.format(self.table)


@pytest.fixture
def tenant_log(tenant: Tenant) -> Log:
    return Log(
        table="audit_logs",
        head="audit_chain_heads",
        app_url=tenant.database_url,
        superuser_url=_in_database(urlsplit(tenant.database_url).path),
        genesis=_sha256(f"seo-gen audit chain of {tenant.identity}"),
    )


@pytest.fixture
def control_log() -> Log:
    parameters = connections["default"].get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return Log(
        table="control_audit_logs",
        head="control_audit_chain_heads",
        app_url=psycopg.conninfo.make_conninfo(**{name: parameters[name] for name in names}),
        superuser_url=_in_database(f"/{settings.DATABASES['default']['NAME']}"),
        genesis=_sha256("seo-gen audit chain of control_audit_logs"),
    )


@pytest.fixture(params=["tenant_log", "control_log"])
def log(request: pytest.FixtureRequest) -> Log:
    found: Log = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def app(log: Log) -> Iterator[psycopg.Connection]:
    with log.as_app() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def superuser(log: Log) -> Iterator[psycopg.Connection]:
    """A superuser's connection; every change made with it is rolled back."""
    with log.as_superuser() as connection:
        yield connection
        connection.rollback()


def _in_database(path: str) -> str:
    # Not at the top: this file is read before the settings are.
    from tenants.models import DatabaseServer

    server = DatabaseServer.objects.get(is_default=True)
    return superuser_url(server.admin_url, path.lstrip("/"))


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
