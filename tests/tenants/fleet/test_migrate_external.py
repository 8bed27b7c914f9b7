"""Migrations on a server that the tests did not start: the machine's own, unmodified (`make external`)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.setup import server_register
from tenants.models import BatchStatus, DatabaseServer
from tests.support.releases import NextRelease
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.fleets import batch, leftovers, states_of

URL = os.environ.get("EXTERNAL_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


@pytest.fixture
def external_server() -> Iterator[DatabaseServer]:
    try:
        connection = psycopg.connect(URL, autocommit=True)
    except psycopg.OperationalError:
        pytest.skip("there is no PostgreSQL at EXTERNAL_POSTGRES_URL")
    ours = "SELECT datname FROM pg_database WHERE starts_with(datname, 'seo_gen_')"
    with connection:
        if connection.execute(ours).fetchall():
            pytest.skip("EXTERNAL_POSTGRES_URL has databases of an installation")
        server = server_register(name="external", admin_url=URL)
        yield server
        for (name,) in connection.execute(ours).fetchall():
            connection.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))
        connection.execute("DROP ROLE seo_gen_owner, seo_gen_tenant")
        server.delete()


@pytest.mark.external
@pytest.mark.usefixtures("empty_fleet")
def test_refusal_names_the_setting_before_any_change(
    external_server: DatabaseServer, make_tenant: MakeTenant, next_release: NextRelease
) -> None:
    with psycopg.connect(external_server.admin_url) as connection:
        [(maximum,)] = connection.execute("SELECT current_setting('max_prepared_transactions')::int").fetchall()
    tenants = [make_tenant(server_name="external"), make_tenant()]
    before = states_of(tenants)
    next_release.add("0003_plain")
    with next_release.active():
        report = tenant_migrate()
    if maximum:
        assert report.outcome == "completed"
        return
    assert report.problems == [
        "Database server external can hold 0 prepared transactions (0 in use), but this batch needs 1: set"
        " max_prepared_transactions to at least 1 in its postgresql.conf and restart it."
    ]
    assert states_of(tenants) == before and leftovers("external") == leftovers() == []
    assert batch().status == BatchStatus.ROLLED_BACK
