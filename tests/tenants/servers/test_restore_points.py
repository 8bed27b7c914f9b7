"""Restore points in a server's WAL."""

from __future__ import annotations

import psycopg
import pytest

from audit.control.models import ControlAuditLog
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.setup import MAIN_SERVER
from tenants.models import DatabaseServer, RestorePoint
from tenants.servers.restore_points import restore_point
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant


@pytest.fixture
def main_server() -> DatabaseServer:
    return DatabaseServer.objects.get(pk=MAIN_SERVER)


def test_it_is_recorded_with_its_position_time_and_an_audit_entry(main_server: DatabaseServer) -> None:
    point = restore_point(main_server, reason="delete", tenant_id="customer-a")
    assert point is not None
    assert point.name.startswith("seo-gen delete customer-a ")
    with psycopg.connect(main_server.admin_url) as connection:
        query = "SELECT %s::pg_lsn < pg_current_wal_insert_lsn(), %s < clock_timestamp()"
        assert connection.execute(query, [point.lsn, point.created_at]).fetchone() == (True, True)
    entry = ControlAuditLog.objects.latest("sequence")
    assert (entry.action, entry.resource_id) == ("cluster.restore_point", MAIN_SERVER)
    assert entry.details == {"name": point.name, "lsn": point.lsn, "reason": "delete", "tenant": "customer-a"}


def test_names_are_of_a_length_that_postgresql_takes_and_never_the_same(main_server: DatabaseServer) -> None:
    points = [restore_point(main_server, reason="restore", tenant_id="x" * 41) for _ in range(2)]
    names = {point.name for point in points if point}
    assert len(names) == 2 and max(map(len, names)) <= 63


def test_without_the_right_there_is_none_and_no_error(main_server: DatabaseServer) -> None:
    with psycopg.connect(superuser_url(main_server.admin_url), autocommit=True) as connection:
        connection.execute("CREATE ROLE modest LOGIN PASSWORD 'modest'")
        connection.execute("GRANT CONNECT ON DATABASE postgres TO modest")
        try:
            host = main_server.admin_url.rpartition("@")[2]
            modest = DatabaseServer(name="modest", admin_url=f"postgresql://modest:modest@{host}")
            assert restore_point(modest, reason="delete") is None
        finally:
            connection.execute("REVOKE CONNECT ON DATABASE postgres FROM modest")
            connection.execute("DROP ROLE modest")
    assert not RestorePoint.objects.filter(server_id="modest").exists()


@pytest.mark.usefixtures("empty_fleet")
def test_migrating_the_fleet_makes_one_per_server_but_not_for_a_dry_run(
    make_tenant: MakeTenant, next_release: NextRelease
) -> None:
    make_tenant()
    make_tenant()
    next_release.add("0003_plain")
    before = RestorePoint.objects.count()
    with next_release.active():
        assert tenant_migrate(dry_run=True).problems == []
        assert RestorePoint.objects.count() == before
        assert tenant_migrate().problems == []
    [point] = RestorePoint.objects.all()[: RestorePoint.objects.count() - before]
    assert (point.reason, point.tenant_id, point.server_id) == ("migrate", "", MAIN_SERVER)
