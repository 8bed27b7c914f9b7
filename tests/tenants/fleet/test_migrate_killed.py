"""Kill a migration of tenants, or its PostgreSQL server: all tenants end on the new version, or all on the old one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from config import stack
from config.stack.paths import CHECKOUT
from config.stack.state import load_state
from tenants.errors import FleetUnfinished
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.status import tenant_statuses
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import BatchStatus, BatchTenant, DatabaseServer, MigrationBatch, Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.types import BatchProgress
from tenants.unfinished import tenant_recover
from tests.support import preloaded, superuser
from tests.support.environment import POSTGRES_OPTIONS
from tests.support.releases import NextRelease
from tests.support.servers import ELSEWHERE
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.fleet.test_migrate import FAILS_ON_ROWS, RUN_PYTHON, add_run
from tests.tenants.support.fleets import as_owner, batch, catalog_of, history_of, leftovers, migrate_and_die, states_of

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("empty_fleet")]

# (phase, how many are done, whether the decision to commit has been written by then)
BOUNDARIES = [
    ("check", 0, False),
    ("check", 3, False),
    ("rehearse", 0, False),
    ("rehearse", 1, False),
    ("prepare", 0, False),
    ("prepare", 1, False),
    ("prepare", 3, False),
    ("decide", 0, False),
    ("decide", 1, True),
    ("commit", 0, True),
    ("commit", 1, True),
    ("commit", 3, True),
]
# `make chaos` runs more of them.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
# Reports that it has started, and continues.
MIGRATE_AND_SAY = """
import django
django.setup()
from tenants.fleet.migrate import tenant_migrate
tenant_migrate(on_progress=lambda p: (p.phase, p.done) == ("check", 0) and print("begun", flush=True))
"""


@pytest.fixture
def trio(make_tenant: MakeTenant) -> list[Tenant]:
    return [make_tenant() for _ in range(3)]


def assert_all_or_none(tenants: list[Tenant]) -> bool:
    """Assert that nothing is half-done anywhere; return whether the tenants are on the new version."""
    assert tenant_recover() == []
    assert leftovers() == []
    assert batch().status in (BatchStatus.COMPLETED, BatchStatus.ROLLED_BACK)
    versions = {("runs", "0003_plain") in history_of(tenant) for tenant in tenants}
    assert len(versions) == 1, "some tenants were migrated and some were not"
    catalogs = [catalog_of(tenant) for tenant in tenants]
    assert all(catalog == catalogs[0] for catalog in catalogs)
    assert ("column run_notes.text" in catalogs[0]) == (versions == {True})
    for tenant in tenants:
        with tenant_context(tenant):
            pass
    return versions.pop()


@pytest.mark.parametrize(("phase", "done", "decided"), BOUNDARIES)
def test_killed_at_a_boundary(
    trio: list[Tenant], next_release: NextRelease, phase: str, done: int, decided: bool
) -> None:
    before = states_of(trio)
    next_release.add("0003_plain")
    migrate_and_die(next_release, phase, done)
    with pytest.raises(FleetUnfinished, match="run `seo-gen tenant recover`"):
        tenant_migrate()
    [recovery] = tenant_recover()
    assert (recovery.kind, recovery.tenant_id, recovery.outcome) == (
        "migrate",
        "*",
        "finished" if decided else "undone",
    )
    assert assert_all_or_none(trio) == decided
    if not decided:
        assert states_of(trio) == before
    # And the next operation is possible again.
    with next_release.active():
        assert tenant_migrate().outcome == "completed"


@pytest.mark.parametrize("done", [0, 1])
def test_killed_while_it_rolls_back(trio: list[Tenant], next_release: NextRelease, done: int) -> None:
    add_run(trio[2])
    # Busy, so that it comes last, when the others are prepared.
    Tenant.objects.filter(pk=trio[2].pk).update(work_seen_at="2026-01-01T00:00Z")
    before = states_of(trio)
    next_release.add("0003_data", RUN_PYTHON, code=FAILS_ON_ROWS)
    migrate_and_die(next_release, "roll back", done)
    assert batch().status == BatchStatus.ROLLING_BACK
    assert len(leftovers()) == 2 - done
    assert [recovery.outcome for recovery in tenant_recover()] == ["undone"]
    assert leftovers() == [] and states_of(trio) == before


def test_killed_after_the_end_there_is_nothing_to_recover(trio: list[Tenant], next_release: NextRelease) -> None:
    next_release.add("0003_plain")
    migrate_and_die(next_release, "end", 0)
    assert assert_all_or_none(trio)


@pytest.mark.parametrize("dry_run", [True, False])
def test_ctrl_c_rolls_back(trio: list[Tenant], next_release: NextRelease, dry_run: bool) -> None:
    before = states_of(trio)
    next_release.add("0003_plain")

    def interrupt(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == ("prepare", 2):
            raise KeyboardInterrupt

    with next_release.active(), pytest.raises(KeyboardInterrupt):
        tenant_migrate(dry_run=dry_run, on_progress=interrupt)
    assert states_of(trio) == before and leftovers() == []
    assert (batch().status, batch().error) == (BatchStatus.ROLLED_BACK, "It was interrupted.")


def test_other_operations_are_refused_until_recovery(trio: list[Tenant], next_release: NextRelease) -> None:
    next_release.add("0003_plain")
    migrate_and_die(next_release, "prepare", 3)
    with pytest.raises(FleetUnfinished):
        tenant_suspend(tenant_id=trio[0].id)
    with pytest.raises(FleetUnfinished):
        tenant_create(name="another")
    assert {status.unfinished_operation for status in tenant_statuses()} == {"migrate"}
    tenant_recover()
    assert {status.unfinished_operation for status in tenant_statuses()} == {None}


def test_foreign_rollback_of_a_prepared_transaction_is_reported(trio: list[Tenant], next_release: NextRelease) -> None:
    next_release.add("0003_plain")
    migrate_and_die(next_release, "decide", 1)
    record = batch()
    with as_owner(trio[1]) as connection:
        connection.autocommit = True
        connection.execute(f"ROLLBACK PREPARED '{record.gid(database_of(trio[1]))}'")
    [recovery] = tenant_recover()
    assert recovery.outcome == "finished"
    assert Tenant.objects.get(pk=trio[1].pk).schema_version != Tenant.objects.get(pk=trio[0].pk).schema_version
    assert f"Tenant {trio[1].id}: Someone else rolled back its prepared transaction" in recovery.reason
    with next_release.active():
        assert tenant_migrate().pending_count == 1
    assert assert_all_or_none(trio)


def test_late_prepared_transaction_is_ended(trio: list[Tenant]) -> None:
    """A process that lost its lock without noticing may prepare another transaction."""
    record = MigrationBatch.objects.create(user_id="test", version="x", status=BatchStatus.ROLLED_BACK)
    BatchTenant.objects.create(
        batch=record, tenant_id=trio[0].id, server="main", database="x", from_version="", migrations=[]
    )
    with as_owner(trio[0]) as connection:
        connection.execute("CREATE TABLE stray (id int)")
        connection.execute(f"PREPARE TRANSACTION '{record.gid(database_of(trio[0]))}'")
    assert leftovers() == [record.gid(database_of(trio[0]))]
    assert tenant_recover() == []
    assert leftovers() == []


class Postgres:
    """A second server that can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self._home = stack.find_home(folder)
        self.start()

    @property
    def url(self) -> str:
        return stack.settings_from_stack(self._home)["TENANT_SERVER_URL"]

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ELSEWHERE.items():
                patch.setenv(name, value)
            patch.setenv("SEO_GEN_POSTGRES_OPTIONS", POSTGRES_OPTIONS)
            stack.ensure_started(self._home)
        superuser.know(self._home)

    def kill(self) -> None:
        record = load_state(self._home).services["postgres"].process
        assert record is not None
        postmaster = psutil.Process(record.pid)
        killed = [postmaster, *postmaster.children(recursive=True)]
        for process in killed:
            # The others end by themselves as soon as the postmaster is gone.
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(killed, timeout=60)

    def stop(self) -> None:
        stack.stop(self._home)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    from tenants.lifecycle.setup import server_register

    postgres = Postgres(tmp_path_factory.mktemp("fragile"))
    server_register(name="fragile", admin_url=postgres.url)
    yield postgres
    postgres.stop()
    DatabaseServer.objects.filter(pk="fragile").delete()


@pytest.mark.parametrize(
    ("when", "committed"),
    [(("prepare", 1), False), (("prepare", 4), True), (("decide", 1), True), (("commit", 1), True)],
)
def test_postgresql_is_killed_under_it(
    fragile: Postgres, make_tenant: MakeTenant, next_release: NextRelease, when: tuple[str, int], committed: bool
) -> None:
    """One of two servers dies: the transactions that were prepared on it survive, and are ended like the others."""
    # Others are being prepared or committed while it dies, and there are too many for all to be.
    on_fragile = 2 if when[0] == "prepare" and committed else 8
    tenants = [make_tenant(server_name="fragile") for _ in range(on_fragile)] + [make_tenant() for _ in range(2)]
    # Those on the surviving server are busy, so they come last.
    Tenant.objects.filter(pk__in=[tenant.pk for tenant in tenants[-2:]]).update(work_seen_at="2026-01-01T00:00Z")

    def kill(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == when:
            fragile.kill()

    next_release.add("0003_plain")
    with next_release.active():
        report = tenant_migrate(workers=1, on_progress=kill)
    assert report.outcome == "unfinished" and report.problems
    assert [recovery.outcome for recovery in tenant_recover()] == ["failed"]
    fragile.start()
    assert [recovery.outcome for recovery in tenant_recover()] == ["finished" if committed else "undone"]
    assert assert_all_or_none(tenants) == committed
    assert leftovers("fragile") == []


def test_killed_at_random_moments(make_tenant: MakeTenant, tmp_path: Path) -> None:
    """The kill may hit a statement, a commit, or a write to the control database."""
    chance = random.Random(os.environ.get("CHAOS_SEED", "3"))
    for number in range(ROUNDS):
        tenants = [make_tenant() for _ in range(4)]
        before = states_of(tenants)
        following = NextRelease(tmp_path / str(number)).add("0003_plain")
        environment = {**os.environ, **following.environment}
        command = [sys.executable, "-c", MIGRATE_AND_SAY]
        with preloaded.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            time.sleep(chance.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
        tenant_recover()
        if not assert_all_or_none(tenants):
            assert states_of(tenants) == before
        Tenant.objects.filter(pk__in=[tenant.pk for tenant in tenants]).update(status="deleted", is_active=False)
