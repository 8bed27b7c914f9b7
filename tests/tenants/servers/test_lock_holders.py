"""If someone holds a lock on a tenant's table, the holder is named and other tenants are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from audit.control.models import AuditArchive
from audit.verification import anchor
from tenants.backup.backup import tenant_backup
from tenants.errors import FleetBusy, TenantLocked
from tenants.fleet.batch import fleet_lock
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.status import tenant_statuses
from tenants.models import MigrationBatch, Tenant
from tenants.operations import advisory_lock
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.servers.lock_holders import reason_for
from tenants.servers.session import LockHolder
from tenants.unfinished import tenant_recover
from tests.support import preloaded
from tests.support.program import seo_gen
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url
from tests.tenants.support.filled import add_run
from tests.tenants.support.fleets import as_owner, state_of

pytestmark = pytest.mark.usefixtures("empty_fleet")

# To keep the tests short.
SHORT = {"DATABASE_LOCK_TIMEOUT_S": "0.5"}
BATCH = uuid.UUID(int=7)


@contextmanager
def stuck(tenant: Tenant, table: str = "runs") -> Iterator[str]:
    """Hold the strongest lock on a table with a prepared transaction during the block; yield the transaction's name."""
    gid = f"foreign-{uuid.uuid4().hex[:8]}"
    with as_owner(tenant) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(gid)))
    try:
        yield gid
    finally:
        assert tenant.server is not None
        url = superuser_url(tenant.server.admin_url, database_of(tenant))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))


def named(text: str, tenant: Tenant, table: str, gid: str) -> bool:
    return (
        f"enant {tenant.id}" in text
        and f"prepared transaction {gid} (" in text
        and f"which has locked table {table} (" in text
    )


class TestCommands:
    """Commands meet a tenant whose table is locked; in most tests, there is also one without problems."""

    @pytest.mark.parametrize("table", ["runs", "tenant_identity", "django_migrations"])
    def test_migrate_stops_before_any_change(
        self, tenant_pair: tuple[Tenant, Tenant], next_release: NextRelease, table: str
    ) -> None:
        ill, well = tenant_pair
        before = state_of(well)
        next_release.add("0003_plain")
        with stuck(ill, table) as gid:
            result = seo_gen(
                "tenant", "migrate", "--all", *("--lock-timeout", "0.5"), **SHORT, **next_release.environment
            )
        assert result.returncode == 1
        assert named(result.stderr, ill, table, gid), result.stderr
        assert state_of(well) == before

    @pytest.mark.parametrize("table", ["runs", "django_migrations"])
    def test_migrate_with_nothing_to_do(self, tenant_pair: tuple[Tenant, Tenant], table: str) -> None:
        ill, _well = tenant_pair
        with stuck(ill, table) as gid:
            result = seo_gen("tenant", "migrate", "--all", **SHORT)
        assert result.returncode == 1
        assert named(result.stderr, ill, table, gid), result.stderr

    @pytest.mark.parametrize("table", ["runs", "audit_logs"])
    def test_backup_continues_with_the_others(
        self, tenant_pair: tuple[Tenant, Tenant], tmp_path: Path, table: str
    ) -> None:
        ill, well = tenant_pair
        with stuck(ill, table) as gid:
            result = seo_gen("tenant", "backup", "--all", "--output", str(tmp_path), "--json", **SHORT)
        assert result.returncode == 1
        outcomes = {one["tenant_id"]: one for one in json.loads(result.stdout)}
        assert outcomes[well.id]["backup"] is not None
        assert named(outcomes[ill.id]["problem"], ill, table, gid), outcomes[ill.id]
        assert ill.id in result.stderr and [file.name for file in tmp_path.iterdir() if ill.id in file.name] == []

    def test_a_locked_log_is_no_lost_log(self, tenant: Tenant) -> None:
        delete = ("tenant", "delete", "--tenant-id", tenant.id, "--confirm", "--accept-audit-loss")
        with stuck(tenant, "audit_logs") as gid:
            result = seo_gen(*delete, **SHORT)
        assert result.returncode == 1
        assert gid in result.stderr, result.stderr
        assert seo_gen(*delete).returncode == 0
        archive = AuditArchive.objects.get(tenant_id=tenant.id)
        assert archive.entries > 0 and archive.first_bad is None

    @pytest.mark.parametrize("table", ["runs", "tenant_identity"])
    def test_status_continues_with_the_others(self, tenant_pair: tuple[Tenant, Tenant], table: str) -> None:
        ill, well = tenant_pair
        with stuck(ill, table) as gid:
            result = seo_gen("tenant", "status", "--check", "--json", **SHORT)
        assert result.returncode == 1
        health = {one["id"]: one for one in json.loads(result.stdout)}
        assert (health[well.id]["problem"], health[well.id]["reachable"]) == (None, True)
        assert f"Prepared transaction {gid}" in health[ill.id]["problem"]
        if table == "tenant_identity":
            assert named(health[ill.id]["problem"], ill, table, gid)

    @pytest.mark.parametrize("table", ["runs", "audit_logs"])
    def test_audit_verify_continues_with_the_others(self, tenant_pair: tuple[Tenant, Tenant], table: str) -> None:
        ill, well = tenant_pair
        with stuck(ill, table) as gid:
            result = seo_gen("audit", "verify", "--all", "--json", **SHORT)
        logs = {one["tenant_id"]: one for one in json.loads(result.stdout)["logs"]}
        assert logs[well.id]["problems"] == [] and logs[well.id]["entries"] > 0
        if logs[ill.id]["problems"]:
            assert result.returncode == 1
            assert f"was not granted within 0.5 s. It is probably held by prepared transaction {gid}" in str(
                logs[ill.id]["problems"]
            )
        assert bool(logs[ill.id]["problems"]) == (table == "audit_logs")

    def test_audit_anchor_continues_with_the_others(self, tenant_pair: tuple[Tenant, Tenant]) -> None:
        ill, well = tenant_pair
        with stuck(ill, "audit_logs") as gid:
            result = seo_gen("audit", "anchor", "--json", **SHORT)
        problems = json.loads(result.stdout)["problems"]
        assert not any(well.id in problem for problem in problems)
        assert result.returncode == 1
        assert any(named(problem, ill, "audit_logs", gid) for problem in problems), problems

    @pytest.mark.parametrize("table", ["runs", "tenant_identity"])
    def test_runs_are_refused_by_name(self, tenant_pair: tuple[Tenant, Tenant], table: str) -> None:
        ill, well = tenant_pair
        with stuck(ill, table) as gid:
            refused = seo_gen("run", "list", "--tenant-id", ill.id, **SHORT)
            listed = seo_gen("run", "list", "--tenant-id", well.id, **SHORT)
        assert listed.returncode == 0, listed.stderr
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Tenant {ill.id} is busy. A lock was not granted within 0.5 s.")
        assert named(refused.stderr, ill, table, gid)


def test_backup_verify_continues(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    """The backup is restored elsewhere, so a lock in the tenant's own database does not matter."""
    ill, _well = tenant_pair
    assert [one.problem for one in tenant_backup(tenant_id=ill.id, output=str(tmp_path))] == [""]
    [file] = tmp_path.glob("*.dump")
    with stuck(ill):
        result = seo_gen("backup", "verify", "--file", str(file), **SHORT)
    assert result.returncode == 0, result.stderr


def test_a_process_that_holds_the_lock_is_named(tenant: Tenant, limits: Callable[..., None]) -> None:
    limits(lock_timeout_s=0.3)
    with as_owner(tenant) as holder:
        holder.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TenantLocked) as caught, tenant_context(tenant):
            add_run(tenant)
        pid = holder.info.backend_pid
    text = str(caught.value)
    assert f"Tenant {tenant.id} is busy. A lock was not granted within 0.3 s." in text
    assert f"probably held by process {pid} (" in text and f"end the process with pg_terminate_backend({pid})." in text
    assert "idle in transaction), which has locked table runs (AccessExclusiveLock)" in text


def test_a_holder_that_has_gone_is_not_invented() -> None:
    unknown = "The session or prepared transaction that held it could not be determined; it may have ended since."
    ended = LockHolder("runs", "ShareLock", None, None, "", "", None, None)
    for holder in (None, ended):
        assert reason_for(holder, 10.0) == f"A lock was not granted within 10 s. {unknown}"


class TestPreparedTransactions:
    def test_one_that_an_operator_forgot_in_the_shell(self, tenant: Tenant) -> None:
        shell = ("tenant", "dbshell", "--tenant-id", tenant.id, "--owner", "--")
        lock, gid = "lock table runs in access exclusive mode", f"foreign-{tenant.id}"
        forgotten = seo_gen(*shell, "-c", "begin", "-c", lock, "-c", f"prepare transaction '{gid}'")
        assert forgotten.returncode == 0, forgotten.stderr
        refused = seo_gen("run", "list", "--tenant-id", tenant.id, **SHORT)
        assert named(refused.stderr, tenant, "runs", gid), refused.stderr
        ended = seo_gen(*shell, "-c", f"rollback prepared '{gid}'")
        assert ended.returncode == 0, ended.stderr
        assert seo_gen("run", "list", "--tenant-id", tenant.id, **SHORT).returncode == 0

    def test_status_warns_without_asking_the_tenants(self, tenant: Tenant) -> None:
        with stuck(tenant) as gid:
            [health] = [one for one in tenant_statuses() if one.id == tenant.id]
            shown = seo_gen("tenant", "status")
        assert health.problem is not None and health.reachable is None
        assert health.problem.startswith(f"Prepared transaction {gid} in database {database_of(tenant)} (")
        assert health.problem.endswith("with COMMIT PREPARED or ROLLBACK PREPARED.")
        assert shown.returncode == 1 and gid in shown.stdout
        assert [one.problem for one in tenant_statuses() if one.id == tenant.id] == [None]

    def test_those_of_a_batch_are_ours(self, tenant: Tenant) -> None:
        batch = MigrationBatch.objects.create(user_id="test", version="x", status="completed", dry_run=True)
        batch.tenants.create(
            tenant_id=tenant.id, server="main", database=database_of(tenant), from_version="", migrations=[]
        )
        with as_owner(tenant) as connection:
            connection.execute("LOCK TABLE artifacts IN SHARE MODE")
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(batch.gid(tenant.id))))
        assert [one.problem for one in tenant_statuses() if one.id == tenant.id] == [None]
        holder = LockHolder("artifacts", "ShareLock", None, "seo_gen_owner", "", "", None, batch.gid(tenant.id))
        assert reason_for(holder, 10.0).endswith("run `seo-gen tenant recover`.")
        # Any role can read such a name, and choose one like it; `recover` leaves its transaction alone.
        assert reason_for(replace(holder, role=database_of(tenant)), 10.0).endswith("or ROLLBACK PREPARED.")
        # A stray of a finished batch, which `recover` ends.
        tenant_recover()
        with as_owner(tenant) as connection:
            assert (
                connection.execute("SELECT FROM pg_prepared_xacts WHERE gid = %s", [batch.gid(tenant.id)]).rowcount == 0
            )
        batch.delete()

    @pytest.mark.parametrize("gid", [f"seo-gen:{BATCH}:x", "seo-gen:no-batch:x", "seo-gen:", "seo-gen:a:b:c"])
    def test_a_forged_batch_name_is_reported(self, tenant: Tenant, gid: str) -> None:
        """The tenant's own role may choose any name, even one with the id of an existing batch."""
        MigrationBatch.objects.create(id=BATCH, user_id="test", version="x", status="completed", dry_run=True)
        with psycopg.connect(tenant.database_url) as connection:
            connection.execute("LOCK TABLE artifacts IN ROW SHARE MODE")
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(sql.Literal(gid)))
        try:
            [health] = [one for one in tenant_statuses() if one.id == tenant.id]
            assert health.problem is not None and f"Prepared transaction {gid} in" in health.problem
            assert tenant_recover() == []
        finally:
            with psycopg.connect(tenant.database_url, autocommit=True) as connection:
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
            MigrationBatch.objects.filter(pk=BATCH).delete()


class TestAdvisoryLocks:
    def test_its_holder_is_named(self, tenant: Tenant) -> None:
        with fleet_lock():
            refused = seo_gen("tenant", "migrate", "--all")
        assert refused.returncode == 1
        said = "or an operation that a batch would disturb."
        assert f"{said} In PostgreSQL, the lock is held by: " in refused.stderr
        assert refused.stderr.rstrip().endswith("Wait for it to finish, then try again.")

    def test_a_job_for_all_tenants_names_itself_instead_of_a_tenant(self, tenant: Tenant) -> None:
        with advisory_lock(anchor.LOCK, busy=FleetBusy):
            refused = seo_gen("audit", "anchor")
        assert refused.returncode == 1
        assert "Another process is anchoring the audit logs. In PostgreSQL, the lock is held by: " in refused.stderr
        assert "Wait for it to finish, then try again." in refused.stderr

    def test_the_name_is_that_of_the_command(self, tenant: Tenant) -> None:
        name = f"seo-gen:test:{uuid.uuid4()}"
        waiting = (
            "import sys; sys.argv = ['seo-gen', 'tenant', 'migrate', '--secret']; import django; django.setup()\n"
            "from tenants.operations import advisory_lock\n"
            "from tenants.errors import FleetBusy\n"
            f"with advisory_lock({name!r}, wait_s=1, busy=FleetBusy):\n"
            "    print('held', flush=True); sys.stdin.read()\n"
        )

        with preloaded.Popen(
            [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
        ) as holder:
            assert holder.stdin is not None and holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with (
                pytest.raises(FleetBusy, match=r"the lock is held by: seo-gen tenant migrate on \S+ \(\d+\)\."),
                advisory_lock(name, wait_s=0.05, busy=FleetBusy, shared=True),
            ):
                pass
            holder.stdin.close()


def test_a_migration_that_finds_a_lock_leaves_no_batch_behind(
    tenant_pair: tuple[Tenant, Tenant], next_release: NextRelease, limits: Callable[..., None]
) -> None:
    limits(lock_timeout_s=0.5)
    ill, _well = tenant_pair
    next_release.add("0003_plain")
    with stuck(ill), next_release.active():
        report = tenant_migrate(lock_timeout_s=0.3)
        assert report.outcome == "rolled_back"
        tenant_recover()
    with next_release.active():
        assert tenant_migrate(dry_run=True).outcome == "completed"
