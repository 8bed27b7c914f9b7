"""One tenant is restored to a point in time on a server that others are using."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from runs.models import Run
from tenants.erasure.delete import tenant_delete
from tenants.errors import ErasedTenant, RestoreRefused
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.models import DatabaseServer, RestorePoint, Tenant
from tenants.pitr.base_backup import cluster_backup
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.transfer.clone import tenant_clone
from tenants.unfinished import tenant_recover
from tests.support.program import seo_gen
from tests.support.releases import NextRelease
from tests.support.tenant_fixtures import remove
from tests.tenants.support.archives import archived_postgres, connected, now, remains
from tests.tenants.support.erased import forget_erasure
from tests.tenants.support.filled import add_run, as_superuser, destroy_rows, everything_of, rows_of, without_audit
from tests.tenants.support.fleets import as_owner
from tests.tenants.support.killed import die_at
from tests.tenants.support.restores import chain_is_whole, scratch_things


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """Yield a server whose WAL is archived and whose base backup is older than all its tenants."""
    folder = tmp_path_factory.mktemp("archived")
    with archived_postgres(folder, "in-time") as server:
        cluster_backup(server_name=server.name, output=str(folder / "base"))
        yield server


@pytest.fixture
def trio(archived: DatabaseServer) -> Iterator[list[Tenant]]:
    Tenant.objects.all().delete()
    tenants = [tenant_create(name=f"time {name}", server_name=archived.name) for name in "abc"]
    yield tenants
    for tenant in tenants:
        remove(tenant)


def moment(server: DatabaseServer) -> datetime:
    with connected(server) as connection:
        return now(connection)


@contextmanager
def at_work(tenant: Tenant) -> Iterator[list[int]]:
    """Add runs to a tenant in the background; yield a list to which each read adds the number of runs that it sees.

    Fail at the end if an error occurred or a run was lost.
    """
    seen: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        from django.db import connections

        try:
            while not stop.is_set():
                add_run(tenant)
                with tenant_context(tenant) as alias:
                    seen.append(Run.objects.using(alias).count())
        except BaseException as error:
            failures.append(error)
        finally:
            connections["default"].close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert seen == list(range(1, len(seen) + 1)), "a run was lost"


def test_each_moment_comes_back_to_the_transaction_while_the_others_work(
    archived: DatabaseServer, trio: list[Tenant]
) -> None:
    tenant, neighbour, other = trio
    states = {}
    with at_work(other):
        add_run(tenant)
        states["one run"] = moment(archived), rows_of(tenant)
        add_run(tenant)
        states["two runs"] = moment(archived), rows_of(tenant)
        destroy_rows(tenant)
        states["destroyed"] = moment(archived), rows_of(tenant)
        neighbours = everything_of(neighbour)
        for name in ("destroyed", "two runs", "one run"):
            time, rows = states[name]
            report = tenant_restore(tenant_id=tenant.id, to_time=time)
            found = rows_of(tenant)
            assert {**found, "audit_logs": None, "audit_chain_heads": None} == {
                **rows,
                "audit_logs": None,
                "audit_chain_heads": None,
            }, name
            assert set(rows["audit_logs"]) < set(found["audit_logs"])
            assert chain_is_whole(tenant) and report.missing_files == []
            # Its view and a trigger had been dropped by hand.
            assert bool(report.drift) == (name == "destroyed")
        assert everything_of(neighbour) == neighbours
    points = RestorePoint.objects.filter(server=archived, tenant_id=tenant.id)
    assert [point.reason for point in points] == ["restore"] * 3
    assert remains() == [] and scratch_things(archived.admin_url) == []


def runs_of(tenant: Tenant) -> list[object]:
    """Return the ids of the runs, reading only that column, since a migration may have added others."""
    with as_owner(tenant) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM runs ORDER BY created_at")]


def test_the_moment_before_a_table_was_emptied(archived: DatabaseServer, trio: list[Tenant]) -> None:
    """The next commit after the target is the destructive one itself, so its locks are still held when recovery stops.

    A prepared transaction that had not ended by then keeps its locks, too.
    """
    tenant = trio[0]
    add_run(tenant)
    rows = rows_of(tenant)
    with as_superuser(tenant) as connection:
        connection.execute("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE")
        connection.execute("PREPARE TRANSACTION 'somebody else''s'")
    time = moment(archived)
    with as_superuser(tenant) as connection:
        connection.execute("TRUNCATE artifacts")
        connection.execute("DROP VIEW run_costs")
    with connected(archived, database_of(tenant)) as connection:
        connection.execute("ROLLBACK PREPARED 'somebody else''s'")
    tenant_restore(tenant_id=tenant.id, to_time=time)
    found = rows_of(tenant)
    assert [found[name] for name in ("runs", "steps", "artifacts", "run_costs")] == [
        rows[name] for name in ("runs", "steps", "artifacts", "run_costs")
    ]


def test_before_and_after_a_migration_and_a_dropped_neighbour(
    archived: DatabaseServer, trio: list[Tenant], next_release: NextRelease
) -> None:
    tenant, neighbour, _other = trio
    add_run(tenant)
    before_migration = moment(archived), runs_of(tenant)
    next_release.add("0003_plain")
    with next_release.active():
        assert tenant_migrate().outcome == "completed"
        add_run(tenant)
        after_migration = moment(archived), runs_of(tenant)
        remove(neighbour)
        add_run(tenant)
        after_drop = moment(archived), runs_of(tenant)
        add_run(tenant)
        for (time, rows), migrations in (
            (after_drop, []),
            (after_migration, []),
            (before_migration, ["runs.0003_plain"]),
        ):
            report = tenant_restore(tenant_id=tenant.id, to_time=time)
            assert runs_of(tenant) == rows and report.migrations == migrations
            assert chain_is_whole(tenant)
        # And the last restore replaced what the one before had made.
        tenant_restore_undo(tenant_id=tenant.id)
        assert runs_of(tenant) == after_migration[1]


def test_clone_to_a_time_and_drill_leave_the_tenant_unchanged(archived: DatabaseServer, trio: list[Tenant]) -> None:
    tenant = trio[0]
    add_run(tenant)
    time = moment(archived)
    add_run(tenant)
    live = without_audit(everything_of(tenant))
    report = tenant_clone(tenant_id=tenant.id, new_id="time-copy", to_time=time)
    copy = Tenant.objects.select_related("server").get(pk="time-copy")
    assert report.rows["runs"] == 1 == len(rows_of(copy)["runs"]) and report.missing_files == []
    assert chain_is_whole(copy) and copy.identity != tenant.identity
    drill = tenant_drill(tenant_id=tenant.id)
    assert drill.rows["runs"] == 2 and set(drill.timing_s) == {"recover", "load", "verify", "migrate"}
    archived.refresh_from_db()
    assert archived.recovery_verified_at is not None
    assert without_audit(everything_of(tenant)) == live
    remove(copy)
    assert remains() == [] and scratch_things(archived.admin_url) == []


def test_a_moment_that_cannot_be_reached_is_refused_and_nothing_changes(
    archived: DatabaseServer, trio: list[Tenant]
) -> None:
    tenant = trio[0]
    live = everything_of(tenant)
    for time, reason in (
        (datetime(2001, 1, 1, tzinfo=UTC), "is before the earliest base backup"),
        (moment(archived) + timedelta(days=1), "is in the future"),
    ):
        with pytest.raises(RestoreRefused, match=f"Tenant {tenant.id} was not restored. .*{reason}"):
            tenant_restore(tenant_id=tenant.id, to_time=time)
    assert everything_of(tenant) == live
    result = seo_gen("tenant", "restore", "--tenant-id", tenant.id, "--to-time", "2001-01-01T00:00Z", "--confirm")
    assert result.returncode == 1 and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.chaos
@pytest.mark.parametrize(("step", "restored"), [("recover", False), ("load", False), ("verify", False), ("open", True)])
def test_killed_at_a_step(archived: DatabaseServer, trio: list[Tenant], step: str, restored: bool) -> None:
    tenant = trio[0]
    time = moment(archived)
    add_run(tenant)
    die_at(step, "tenant_restore", tenant_id=tenant.id, to_time=time)
    assert [one.outcome for one in tenant_recover()] == ["finished" if restored else "undone"]
    assert remains() == [] and scratch_things(archived.admin_url) == []
    assert len(rows_of(tenant)["runs"]) == (0 if restored else 1)
    with tenant_context(tenant):
        assert database_of(tenant)


def test_an_erased_tenant_comes_back_from_the_servers_log_only_with_a_reason(trio: list[Tenant]) -> None:
    tenant, server = trio[0], trio[0].server
    assert server is not None
    run = add_run(tenant)
    before = moment(server)
    row = tenant_delete(tenant_id=tenant.id)
    with pytest.raises(ErasedTenant):
        tenant_clone(tenant_id=tenant.id, new_id="time-again", to_time=before)
    report = tenant_clone(tenant_id=tenant.id, new_id="time-again", to_time=before, from_erased="by mistake")
    assert len(report.missing_files) == 2  # files are not in the log
    with tenant_context("time-again") as alias:
        assert [pk for (pk,) in Run.objects.using(alias).values_list("pk")] == [run]
    remove(Tenant.objects.get(pk="time-again"))
    forget_erasure(row)
