"""Migrating all tenants or none: what is migrated, what is refused, and what is rolled back."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from django.db import connections

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from tenants.errors import FleetBusy, FleetUnfinished, TenantNotActive, UnknownTenant
from tenants.fleet.batch import fleet_lock
from tenants.fleet.check import full_servers
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.setup import control_setup, server_register
from tenants.lifecycle.suspend import tenant_suspend
from tenants.management.commands.tenant_migrate import _summary
from tenants.models import BatchStatus, DatabaseServer, MigrationBatch, Tenant, TenantStatus, database_prefix
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.schema.releases import release
from tenants.schema.template import ensure_template, template_name
from tenants.servers.session import ServerSession
from tenants.types import BatchProgress
from tests.support.program import seo_gen
from tests.support.releases import NextRelease
from tests.support.servers import second_postgres
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.support.fleets import as_owner, batch, catalog_of, history_of, leftovers, state_of, states_of

# Fails if the tenant has a run.
FAILS_ON_ROWS = """
def refuse(apps, schema_editor):
    if apps.get_model("runs", "Run").objects.using(schema_editor.connection.alias).exists():
        raise ValueError("this run cannot be converted")
"""
RUN_PYTHON = """
    operations = [
        migrations.AddField("Run", "label", models.TextField(null=True)),
        migrations.RunPython(refuse),
    ]
"""
NEEDS_UNIQUE_STATUS = """
    operations = [migrations.AddConstraint("Run", models.UniqueConstraint(fields=["status"], name="one_per_status"))]
"""
PLAIN_SQL = "operations = [migrations.RunSQL({sql!r})]"


def add_run(tenant: Tenant, status: str = "completed") -> None:
    with as_owner(tenant) as connection:
        connection.execute("INSERT INTO runs (status) VALUES (%s)", [status])


def assert_unchanged(before: dict[str, list[tuple[object, ...]]], tenants: list[Tenant]) -> None:
    assert states_of(tenants) == before
    assert leftovers() == []
    record = batch()
    assert (record.status, record.finished_at is not None) == (BatchStatus.ROLLED_BACK, True)


@pytest.mark.usefixtures("empty_fleet")
class TestAllGoesWell:
    def test_every_tenant_is_migrated_suspended_ones_too(
        self, make_tenant: MakeTenant, next_release: NextRelease
    ) -> None:
        tenants = [make_tenant() for _ in range(3)]
        tenant_suspend(tenant_id=tenants[1].id)
        next_release.add("0003_plain")
        with next_release.active():
            report = tenant_migrate()
            version = release().version
        assert (report.outcome, report.tenant_count, report.pending_count, report.problems) == ("completed", 3, 3, [])
        for tenant in tenants:
            assert ("runs", "0003_plain") in history_of(tenant)
            assert "column run_notes.text" in catalog_of(tenant)
            assert Tenant.objects.get(pk=tenant.id).schema_version == version
        assert leftovers() == []
        assert {outcome.tenant_id for outcome in report.tenants} == {tenant.id for tenant in tenants}
        assert all(outcome.migrations == ["runs.0003_plain"] for outcome in report.tenants)

    def test_it_is_audited_in_both_databases_and_the_chain_holds(
        self, tenant: Tenant, next_release: NextRelease
    ) -> None:
        next_release.add("0003_plain")
        with next_release.active():
            report = tenant_migrate()
        entries = ControlAuditLog.objects.filter(resource_id=str(report.batch_id)).order_by("id")
        assert [entry.action for entry in entries] == [
            "tenant.migrate",
            "tenant.migrate.commit",
            "tenant.migrate.complete",
        ]
        assert entries[1].details == {"tenants": [tenant.id]}
        with tenant_context(tenant) as alias:
            created, migrated = AuditLog.objects.using(alias).order_by("id")
        assert migrated.action == "tenant.migrate" and migrated.previous_hash == created.entry_hash
        assert migrated.details is not None
        assert migrated.details["batch"] == str(report.batch_id)
        assert migrated.details["migrations"] == ["runs.0003_plain"]

    def test_again_there_is_nothing_to_do(self, tenant: Tenant, next_release: NextRelease) -> None:
        next_release.add("0003_plain")
        with next_release.active():
            tenant_migrate()
            before = state_of(tenant)
            report = tenant_migrate()
        assert (report.outcome, report.pending_count) == ("completed", 0)
        assert state_of(tenant) == before

    def test_one_tenant_alone(self, tenant_pair: tuple[Tenant, Tenant], next_release: NextRelease) -> None:
        chosen, other = tenant_pair
        next_release.add("0003_plain")
        with next_release.active():
            report = tenant_migrate(tenant_id=chosen.id)
            assert report.pending_count == 1
            assert release().is_complete(history_of(chosen)) and not release().is_complete(history_of(other))
            # The rest of the fleet follows, whatever version each tenant comes from.
            assert tenant_migrate().pending_count == 1
            assert catalog_of(chosen) == catalog_of(other)

    def test_tenants_that_come_from_different_versions_end_alike(self, make_tenant: MakeTenant, tmp_path: Path) -> None:
        old = make_tenant()
        middle_release = NextRelease(tmp_path / "middle").add("0003_plain")
        newest = NextRelease(tmp_path / "newest").add("0003_plain")
        newest.add("0004_more", '    operations = [migrations.AddField("Note", "author", models.TextField(null=True))]')
        with middle_release.active():
            middle = make_tenant()
        with newest.active():
            new = make_tenant()
            report = tenant_migrate()
        assert {outcome.tenant_id: len(outcome.migrations) for outcome in report.tenants} == {old.id: 2, middle.id: 1}
        assert catalog_of(old) == catalog_of(middle) == catalog_of(new)

    def test_the_template_follows_and_is_what_migrating_from_nothing_gives(
        self, make_tenant: MakeTenant, next_release: NextRelease
    ) -> None:
        migrated = make_tenant()
        next_release.add("0003_plain")
        with next_release.active():
            tenant_migrate()
            with ServerSession(DatabaseServer.objects.get(pk="main"), database_prefix()) as server_session:
                followed = template_name(database_prefix())
                assert server_session.template_is_ready(followed)
                cloned = make_tenant()
                assert Tenant.objects.get(pk=cloned.pk).schema_version == release().version
                server_session.drop_database(followed)
                assert ensure_template(server_session, database_prefix()) == followed
            built = make_tenant()
        assert catalog_of(migrated) == catalog_of(cloned) == catalog_of(built)
        assert history_of(migrated) == history_of(cloned) == history_of(built)

    def test_a_migration_may_be_edited_and_edited_back_before_any_tenant_has_it(
        self, make_tenant: MakeTenant, tmp_path: Path
    ) -> None:
        tenant = make_tenant()
        column = '    operations = [migrations.AddField("Run", "{}", models.TextField(null=True))]'
        for number, name in enumerate(("first", "second", "first")):
            edited = NextRelease(tmp_path / str(number)).add("0003_edited", column.format(name))
            with edited.active():
                assert tenant_migrate(dry_run=True).problems == []
        with edited.active():
            assert tenant_migrate().problems == []
        assert "column runs.first" in catalog_of(tenant)

    def test_set_up_drops_templates_that_no_tenant_comes_from(self, make_tenant: MakeTenant, tmp_path: Path) -> None:
        tenant = make_tenant()
        names = []
        for number, added in enumerate((["0003_a"], ["0003_a", "0004_b"], ["0003_a", "0004_b", "0005_c"])):
            following = NextRelease(tmp_path / str(number))
            for name in added:
                column = f'    operations = [migrations.AddField("Run", "{name[5:]}", models.TextField(null=True))]'
                following.add(name, column)
            with following.active():
                control_setup()
                assert tenant_migrate().outcome == "completed"
                names.append(template_name(database_prefix()))
        with ServerSession(DatabaseServer.objects.get(pk="main"), database_prefix()) as server_session:
            assert [server_session.database_exists(name) for name in names] == [False, True, True]
        assert len(catalog_of(tenant)) > 0

    def test_a_dry_run_reports_time_and_locks_and_changes_nothing(
        self, make_tenant: MakeTenant, next_release: NextRelease
    ) -> None:
        tenants = [make_tenant(), make_tenant()]
        before = states_of(tenants)
        next_release.add("0003_plain")
        with next_release.active():
            report = tenant_migrate(dry_run=True)
        assert (report.outcome, report.dry_run) == ("completed", True)
        for outcome in report.tenants:
            assert outcome.locks is not None and outcome.locks["runs"] == "AccessExclusiveLock"
            assert outcome.prepared_ms is not None and outcome.locked_ms is not None
        assert states_of(tenants) == before and leftovers() == []

    def test_no_tenants_is_nothing_to_do(self, next_release: NextRelease) -> None:
        next_release.add("0003_plain")
        with next_release.active():
            assert tenant_migrate().outcome == "completed"

    def test_progress_counts_the_tenants_of_each_phase(
        self, tenant_pair: tuple[Tenant, Tenant], next_release: NextRelease
    ) -> None:
        seen: list[BatchProgress] = []
        next_release.add("0003_plain")
        with next_release.active():
            tenant_migrate(on_progress=seen.append)
        steps = [(one.phase, one.done, one.total) for one in seen]
        for phase in ("check", "prepare", "commit"):
            assert [step for step in steps if step[0] == phase] == [(phase, 0, 2), (phase, 1, 2), (phase, 2, 2)]
        assert steps[-1][0] == "end"

    def test_tenants_at_work_are_prepared_last(self, make_tenant: MakeTenant, next_release: NextRelease) -> None:
        busy, idle = make_tenant(name="aa busy"), make_tenant(name="zz idle")
        Tenant.objects.filter(pk=busy.pk).update(work_seen_at="2026-01-01T00:00Z")
        seen: list[BatchProgress] = []
        next_release.add("0003_plain")
        with next_release.active():
            tenant_migrate(workers=1, on_progress=seen.append)
        assert [one.subject for one in seen if one.phase == "prepare" and one.done] == [idle.id, busy.id]


class TestFiftyTenantsOneOfThemSabotaged:
    """One of fifty tenants cannot be migrated, so none is changed: the specification's first requirement."""

    def test_a_conflicting_table(self, fifty: list[Tenant], next_release: NextRelease) -> None:
        victim = fifty[17]
        with as_owner(victim) as connection:
            connection.execute("CREATE TABLE run_notes (id int)")
        before = states_of(fifty)
        next_release.add("0003_plain")
        result = seo_gen("tenant", "migrate", "--all", **next_release.environment)
        assert (result.returncode, result.stdout) == (1, "")
        assert "No tenant was changed" in result.stderr
        assert f"Tenant {victim.id}: Its schema differs from what its migrations create:" in result.stderr
        assert "table run_notes is unexpected" in result.stderr
        assert_unchanged(before, fifty)
        assert Tenant.objects.get(pk=victim.pk).schema_drift is not None
        with as_owner(victim) as connection:
            connection.execute("DROP TABLE run_notes")

    def test_a_conflicting_table_that_appears_after_the_check(
        self, fifty: list[Tenant], next_release: NextRelease
    ) -> None:
        victim = fifty[31]

        def sabotage(progress: BatchProgress) -> None:
            if (progress.phase, progress.done) == ("rehearse", 1):
                with as_owner(victim) as connection:
                    connection.execute("CREATE TABLE run_notes (id int)")

        before = states_of(fifty)
        next_release.add("0003_plain")
        with next_release.active():
            report = tenant_migrate(on_progress=sabotage)
        with as_owner(victim) as connection:
            connection.execute("DROP TABLE run_notes")
        # Before anything is run in it, since its contents are not what was proven.
        assert report.problems == [f"Tenant {victim.id}: Its schema has changed since it was checked."]
        others = [tenant for tenant in fifty if tenant != victim]
        assert_unchanged({tenant.id: before[tenant.id] for tenant in others}, others)
        assert [row[:2] + row[3:] for row in state_of(victim)] == [row[:2] + row[3:] for row in before[victim.id]]

    @pytest.mark.parametrize(
        ("operations", "code", "reason"),
        [
            (RUN_PYTHON, FAILS_ON_ROWS, "ValueError: this run cannot be converted"),
            (NEEDS_UNIQUE_STATUS, "", 'could not create unique index "one_per_status"'),
        ],
        ids=["python", "constraint"],
    )
    def test_a_data_migration_that_fails_on_its_rows(
        self, fifty: list[Tenant], next_release: NextRelease, operations: str, code: str, reason: str
    ) -> None:
        victim = fifty[42]
        add_run(victim)
        add_run(victim)
        before = states_of(fifty)
        next_release.add("0003_data", operations, code=code)
        with next_release.active():
            report = tenant_migrate()
        assert report.outcome == "rolled_back"
        assert report.problems == [f"Tenant {victim.id}, migration runs.0003_data: {reason}."]
        assert_unchanged(before, fifty)
        assert batch().error == report.problems[0]
        with as_owner(victim) as connection:
            connection.execute("DELETE FROM runs")

    def test_a_held_lock_is_named_with_who_holds_it(self, fifty: list[Tenant], next_release: NextRelease) -> None:
        victim = fifty[3]
        before = states_of(fifty)
        next_release.add("0003_plain")
        with next_release.active(), as_owner(victim) as holder:
            holder.execute("SELECT count(*) FROM runs")
            report = tenant_migrate(lock_timeout_s=0.5)
            pid = holder.info.backend_pid
        [problem] = report.problems
        assert problem.startswith(f"Tenant {victim.id}, migration runs.0003_plain: A lock was not granted")
        assert f"process {pid} (seo_gen_owner" in problem
        assert_unchanged(before, fifty)

    def test_migration_succeeds_once_fixed(self, fifty: list[Tenant], next_release: NextRelease) -> None:
        next_release.add("0003_plain")
        result = seo_gen("tenant", "migrate", "--all", "--dry-run", "--json", **next_release.environment)
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        assert (document["pending_count"], document["outcome"]) == (50, "completed")


@pytest.mark.usefixtures("empty_fleet")
class TestRefusals:
    """What is wrong is reported, and no tenant is changed."""

    def refused(self, next_release: NextRelease, tenants: list[Tenant]) -> list[str]:
        before = states_of(tenants)
        with next_release.active():
            report = tenant_migrate()
        assert report.outcome == "rolled_back"
        assert_unchanged(before, tenants)
        return report.problems

    def test_a_database_that_is_gone(self, make_tenant: MakeTenant, next_release: NextRelease) -> None:
        well, ill = make_tenant(), make_tenant()
        with ServerSession(DatabaseServer.objects.get(pk="main"), database_prefix()) as server_session:
            server_session.drop_database(database_of(ill))
        [problem] = self.refused(next_release.add("0003_plain"), [well])
        assert problem == f"Tenant {ill.id}: Its database {database_of(ill)} does not exist on server main."

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("REVOKE CONNECT ON DATABASE {name} FROM {name}", "is not allowed to connect to its database"),
            (
                "REVOKE seo_gen_tenant FROM {name} GRANTED BY seo_gen_admin",
                "lacks the privileges of the tenants' group role",
            ),
            ("ALTER ROLE {name} NOLOGIN", "does not exist or cannot log in"),
            ("ALTER DATABASE {name} ALLOW_CONNECTIONS false", "accepts no connections"),
            ("GRANT CONNECT ON DATABASE {name} TO PUBLIC", "Its database is also open to PUBLIC"),
        ],
    )
    def test_changed_access_is_reported(
        self, make_tenant: MakeTenant, next_release: NextRelease, statement: str, reason: str
    ) -> None:
        well, ill = make_tenant(), make_tenant()
        with psycopg.connect(superuser_url(DatabaseServer.objects.get(pk="main").admin_url), autocommit=True) as server:
            server.execute(statement.format(name=database_of(ill)))
        [problem] = self.refused(next_release.add("0003_plain"), [well])
        assert problem.startswith(f"Tenant {ill.id}: ") and reason in problem

    def test_a_database_that_is_another_tenants(self, make_tenant: MakeTenant, next_release: NextRelease) -> None:
        tenant = make_tenant()
        with as_owner(tenant) as connection:
            connection.execute("UPDATE tenant_identity SET tenant_id = 'somebody-else'")
        [problem] = self.refused(next_release.add("0003_plain"), [tenant])
        assert f"Database {database_of(tenant)} belongs to another tenant (tenant id: somebody-else)" in problem

    def test_a_tenant_ahead_of_the_code(self, tenant: Tenant, next_release: NextRelease) -> None:
        next_release.add("0003_plain")
        with next_release.active():
            tenant_migrate()
        report = tenant_migrate()
        assert report.problems == [
            f"Tenant {tenant.id}: The database is ahead of this code, which does not know runs.0003_plain."
        ]

    def test_an_inconsistent_history(self, tenant: Tenant, next_release: NextRelease) -> None:
        with as_owner(tenant) as connection:
            connection.execute("DELETE FROM django_migrations WHERE name = '0001_initial' AND app = 'runs'")
        [problem] = self.refused(next_release.add("0003_plain"), [tenant])
        assert "runs.0002_guards_and_costs is applied without runs.0001_initial" in problem

    def test_all_problems_are_reported_at_once(self, make_tenant: MakeTenant, next_release: NextRelease) -> None:
        tenants = [make_tenant() for _ in range(3)]
        for tenant in tenants[:2]:
            with as_owner(tenant) as connection:
                connection.execute("DROP INDEX runs_newest")
        problems = self.refused(next_release.add("0003_plain"), tenants)
        assert sorted(problems) == sorted(
            f"Tenant {tenant.id}: Its schema differs from what its migrations create: index runs_newest is missing."
            for tenant in tenants[:2]
        )

    @pytest.mark.parametrize(
        ("operations", "reason"),
        [
            ("    atomic = False\n    operations = []", "it sets atomic = False"),
            (
                '    operations = [migrations.RunSQL("CREATE INDEX CONCURRENTLY i ON runs (status)")]',
                "CREATE INDEX CONCURRENTLY i …",
            ),
        ],
        ids=["atomic", "concurrently"],
    )
    def test_untransactional_migration_is_refused(
        self, tenant: Tenant, next_release: NextRelease, operations: str, reason: str
    ) -> None:
        [problem] = self.refused(next_release.add("0003_bad", operations), [tenant])
        assert problem.startswith("Migration runs.0003_bad cannot be applied atomically") and reason in problem

    def test_a_migration_that_fails_everywhere_fails_in_the_rehearsal(
        self, tenant: Tenant, next_release: NextRelease
    ) -> None:
        next_release.add("0003_broken", '    operations = [migrations.RunSQL("ALTER TABLE nowhere ADD COLUMN x int")]')
        [problem] = self.refused(next_release, [tenant])
        assert "The rehearsal on database server main failed at runs.0003_broken" in problem
        assert 'relation "nowhere" does not exist' in problem

    def test_migrations_that_change_while_it_runs(self, tenant: Tenant, next_release: NextRelease) -> None:
        next_release.add("0003_plain")

        def add_another(progress: BatchProgress) -> None:
            if (progress.phase, progress.done) == ("prepare", 1):
                next_release.add("0004_late", "    operations = []")

        before = states_of([tenant])
        with next_release.active():
            report = tenant_migrate(on_progress=add_another)
        assert report.problems == ["The migrations on disk changed while the batch was running. Migrate again."]
        assert_unchanged(before, [tenant])

    def test_an_unknown_tenant_records_nothing(self) -> None:
        count = MigrationBatch.objects.count()
        with pytest.raises(UnknownTenant, match="There is no tenant 'nobody'"):
            tenant_migrate(tenant_id="nobody")
        assert MigrationBatch.objects.count() == count

    def test_two_at_once(self, tenant: Tenant) -> None:
        busy = pytest.raises(FleetBusy, match="Another process is running a batch")
        with ThreadPoolExecutor(1) as pool, fleet_lock(), busy:
            pool.submit(self._migrate_in_thread).result()

    @staticmethod
    def _migrate_in_thread() -> None:
        try:
            tenant_migrate()
        finally:
            connections["default"].close()

    def test_an_erased_tenant_is_left_alone_and_cannot_be_named(self) -> None:
        gone = Tenant.objects.create(
            id="gone", name="gone", database_url="postgresql://gone/gone", status="deleted", is_active=False
        )
        assert tenant_migrate().tenant_count == 0
        with pytest.raises(TenantNotActive, match="The status of tenant gone is deleted"):
            tenant_migrate(tenant_id="gone")
        gone.delete()


def test_a_server_that_is_down_is_a_problem_of_the_batch() -> None:
    gone = DatabaseServer(name="gone", admin_url="postgresql://nobody@127.0.0.1:1/none")
    [problem] = full_servers({gone: 1}, work="test")
    assert problem.startswith("Database server gone cannot be reached: ")


@pytest.mark.usefixtures("empty_fleet")
class TestServers:
    @pytest.mark.parametrize("second_server", ["max_prepared_transactions=0"], indirect=True)
    def test_a_server_without_prepared_transactions_is_refused_with_the_setting(
        self, second_server: DatabaseServer, make_tenant: MakeTenant, next_release: NextRelease
    ) -> None:
        tenants = [make_tenant(), make_tenant(server_name=second_server.name)]
        before = states_of(tenants)
        next_release.add("0003_plain")
        result = seo_gen("tenant", "migrate", "--all", **next_release.environment)
        assert result.returncode == 1
        assert "set max_prepared_transactions to at least 1 in its postgresql.conf and restart it" in result.stderr
        assert_unchanged(before, tenants)

    @pytest.mark.parametrize("second_server", ["max_prepared_transactions=1"], indirect=True)
    def test_transactions_that_others_have_prepared_count(
        self, second_server: DatabaseServer, make_tenant: MakeTenant, next_release: NextRelease
    ) -> None:
        make_tenant(server_name=second_server.name)
        next_release.add("0003_plain")
        with psycopg.connect(superuser_url(second_server.admin_url), autocommit=True) as other, next_release.active():
            other.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'somebody'")
            report = tenant_migrate()
            assert "can hold 1 prepared transaction (1 in use), but this batch needs 1" in report.problems[0]
            other.execute("ROLLBACK PREPARED 'somebody'")
            assert tenant_migrate().outcome == "completed"

    def test_tenants_on_two_servers_are_one_batch(
        self, second_server: DatabaseServer, make_tenant: MakeTenant, next_release: NextRelease, tmp_path: Path
    ) -> None:
        tenants = [make_tenant(), make_tenant(server_name="second"), make_tenant(server_name="second")]
        add_run(tenants[2])
        before = states_of(tenants)
        failing = NextRelease(tmp_path / "failing").add("0003_data", RUN_PYTHON, code=FAILS_ON_ROWS)
        with failing.active():
            report = tenant_migrate()
        assert report.problems[0].startswith(f"Tenant {tenants[2].id}, migration runs.0003_data")
        assert_unchanged(before, tenants)
        assert leftovers("second") == []
        next_release.add("0003_plain")
        with next_release.active():
            assert tenant_migrate().outcome == "completed"
            assert {release().is_complete(history_of(tenant)) for tenant in tenants} == {True}
        assert catalog_of(tenants[0]) == catalog_of(tenants[1]) == catalog_of(tenants[2])
        assert leftovers() == leftovers("second") == []


@pytest.mark.usefixtures("empty_fleet")
class TestNewTenants:
    def test_they_wait_for_the_batch(self, next_release: NextRelease) -> None:
        def create() -> Tenant:
            try:
                return tenant_create(name="came during the batch")
            finally:
                connections["default"].close()

        with ThreadPoolExecutor(1) as pool:
            with fleet_lock():
                creation = pool.submit(create)
                _wait_for_waiting_lock()
                assert not Tenant.objects.filter(name="came during the batch").exists()
            tenant = creation.result()
        assert tenant.status == TenantStatus.ACTIVE
        remove(tenant)

    def test_they_are_refused_while_a_batch_is_unfinished(self) -> None:
        unfinished = MigrationBatch.objects.create(user_id="test", version="x", status=BatchStatus.COMMITTING)
        with pytest.raises(FleetUnfinished, match="run `seo-gen tenant recover`"):
            tenant_create(name="too early")
        with pytest.raises(FleetUnfinished):
            tenant_migrate()
        unfinished.delete()


def _wait_for_waiting_lock() -> None:
    query = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
    deadline = time.monotonic() + 60
    with connections["default"].cursor() as cursor:
        while True:
            cursor.execute(query)
            if cursor.fetchone()[0]:
                return
            assert time.monotonic() < deadline, "nobody waits"
            threading.Event().wait(0.01)


@pytest.mark.usefixtures("empty_fleet")
def test_an_administrator_of_another_name_suffices(next_release: NextRelease, tmp_path: Path) -> None:
    """The rights that every server must grant are enough, without those for recovery."""
    next_release.add("0003_plain")
    with second_postgres(tmp_path / "second") as url:
        with psycopg.connect(superuser_url(url), autocommit=True) as connection:
            connection.execute("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'managers'")
            connection.execute("GRANT pg_signal_backend, pg_monitor TO manager")
            connection.execute("GRANT CONNECT ON DATABASE postgres TO manager")
        limited = server_register(name="limited", admin_url=f"postgresql://manager:managers@{url.rpartition('@')[2]}")
        tenants = [tenant_create(name=name, server_name="limited") for name in ("one", "two")]
        with next_release.active():
            report = tenant_migrate()
            assert (report.outcome, report.problems, report.pending_count) == ("completed", [], 2)
            assert tenant_migrate().pending_count == 0
        for tenant in tenants:
            remove(tenant)
    limited.delete()


def test_the_table_has_a_dash_for_a_tenant_that_missed_the_batch() -> None:
    row = {"server": "main", "from_version": "a" * 64, "migrations": ["runs.0002"], "prepared_ms": 3, "locked_ms": 5}
    lines = _summary({"tenants": [row, {**row, "locked_ms": None}]})
    assert [line[2:] for line in lines] == [(2, "runs.0002", 3, 5)]
    assert [line[-1] for line in _summary({"tenants": [{**row, "locked_ms": None}]})] == ["-"]
