"""A worker is frozen in the middle of a step: others take over within the timeouts, and it cannot change their work."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psutil
import psycopg
import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.db import connections
from pytest_django import Settings

from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from runs.messages.task_names import EXECUTE_STEP
from runs.models import Run, RunStatus, Step
from runs.steps.sweep import runs_sweep
from tenants.files.tenant_storage import prefix_of
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tests.runs.driving import reload
from tests.runs.worker import PATIENCE_S, kill
from tests.support import preloaded

MakeRun = Callable[..., Run]
STEP = "keyword_analysis"
LEASE_S = 1.0
# As an operator would shorten them; the other worker waits longer for a lock than a frozen one may keep it.
TIMEOUTS = {
    "RUN_LEASE_S": str(LEASE_S),
    "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_S": "0.7",
    "DATABASE_LOCK_TIMEOUT_S": "5",
}
# The parts of claiming and completing; the test fails if it no longer stops at one of them.
EXPECTED = (
    "FOR UPDATE",
    "UPDATE public.steps",
    "INSERT INTO public.calls",
    "WITH settled",
    "INSERT INTO public.audit_logs",
    "os.link .output.json",
    "os.link .article.md",
    "COMMIT",
)


class Frozen:
    """The worker of `tests.runs.steps.freezing`, on a queue of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = f"frozen-{uuid.uuid4().hex[:8]}"
        self.process = start("tests.runs.steps.freezing", folder, self.queue, FREEZE_FOLDER=str(folder))

    def give(self, tenant: Tenant, run: Run, plan: str) -> bool:
        """Have the worker execute the step and freeze at the point; return False if the step never reached it."""
        (self.folder / "plan").write_text(plan)
        (self.folder / "frozen").unlink(missing_ok=True)
        done = self.done()
        current_app.send_task(EXECUTE_STEP, args=[tenant.pk, str(run.pk), STEP], queue=self.queue)
        assert wait_until(lambda: self.is_frozen() or self.done() > done, PATIENCE_S), log_of(self.folder)
        return self.is_frozen()

    def point(self) -> str:
        return (self.folder / "frozen").read_text()

    def is_frozen(self) -> bool:
        if not (self.folder / "frozen").exists():
            return False
        worker = psutil.Process(self.process.pid)
        return all(self._is_frozen(one) for one in [worker, *worker.children(recursive=True)])

    def _is_frozen(self, process: psutil.Process) -> bool:
        try:
            # The process that renders prompts is in a group of its own, is not frozen, and may end.
            return os.getpgid(process.pid) != self.process.pid or process.status() == psutil.STATUS_STOPPED
        except (ProcessLookupError, psutil.NoSuchProcess):
            return True

    def thaw(self) -> None:
        """Unfreeze the worker, and wait until it has finished the step."""
        done = self.done()
        os.killpg(self.process.pid, signal.SIGCONT)
        assert wait_until(lambda: self.done() > done, PATIENCE_S), log_of(self.folder)

    def done(self) -> int:
        file = self.folder / "done"
        return len(file.read_text().splitlines()) if file.exists() else 0


class Other:
    """An ordinary worker that takes wake-ups only on request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        idle = f"idle-{uuid.uuid4().hex[:8]}"
        self.name = f"other-{idle}@here"
        self.process = start("tests.runs.steps.obedient", folder, idle, "--hostname", self.name)

    def begin(self) -> None:
        reply = current_app.control.add_consumer(
            django_settings.CELERY_TASK_DEFAULT_QUEUE, destination=[self.name], reply=True, timeout=30
        )
        assert reply and "ok" in reply[0][self.name], reply

    def pause(self) -> None:
        reply = current_app.control.cancel_consumer(
            django_settings.CELERY_TASK_DEFAULT_QUEUE, destination=[self.name], reply=True, timeout=30
        )
        assert reply and "ok" in reply[0][self.name], reply


def start(app: str, folder: Path, queue: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    ready = folder / "ready"
    with (folder / "log").open("wb") as log:
        process = preloaded.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", app, "worker", "--concurrency", "1", "--queues", queue),
                *("--loglevel", "INFO", "--without-gossip", "--without-mingle", *options),
            ],
            cwd=CHECKOUT,
            env={**os.environ, **TIMEOUTS, **environment, "SEO_GEN_READY_FILE": str(ready)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert wait_until(ready.exists, PATIENCE_S), log_of(folder)
    return process


@pytest.fixture(autouse=True)
def lease(settings: Settings) -> None:
    """Set the lease that this process's sweeps use."""
    settings.RUN_LEASE_S = LEASE_S


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    worker = Frozen(tmp_path / "frozen")
    yield worker
    kill(worker.process)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    worker = Other(tmp_path / "other")
    yield worker
    kill(worker.process)


def completed(tenant: Tenant, *runs: Run) -> bool:
    """Sweep as beat does; return whether all runs are completed. None may fail."""
    runs_sweep()
    statuses = [reload(tenant, run).status for run in runs]
    assert RunStatus.FAILED not in statuses
    return set(statuses) == {RunStatus.COMPLETED}


WRITTEN = "SELECT xmin::text, row::text FROM {table} AS row ORDER BY row::text"
# After the commit, whoever completed a run writes its summary and notes that. A worker may be frozen before it does.
SUMMARIZED = "SELECT to_jsonb(row) - 'is_summarized' FROM runs AS row ORDER BY id"
SETTLED = "SELECT to_jsonb(row) - 'token_usage' FROM steps AS row ORDER BY id"
QUERIES = {"runs": SUMMARIZED, "steps": SETTLED}


State = dict[str, list[tuple[object, ...]]]


def state(tenant: Tenant) -> State:
    """Return what a late worker must not change: rows, some with the transaction that wrote them, and files.

    A late worker may settle its own call, so calls, spending and the token usage of steps are left out; so is the mark
    that a run is summarized.
    """
    with tenant_context(tenant) as alias, connections[alias].cursor() as cursor:
        rows: State = {}
        for table in ("runs", "steps", "artifacts", "audit_logs"):
            cursor.execute(QUERIES.get(table, WRITTEN.format(table=table)))
            rows[table] = cursor.fetchall()
    folder = Path(django_settings.STORAGE_ROOT) / prefix_of(tenant.id)
    files: list[tuple[object, ...]] = [
        (str(path), path.stat().st_ino, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        # An unfinished file concerns only its writer.
        if path.is_file() and path.suffix != ".partial"
    ]
    return {**rows, "files": files}


def changes(before: State, after: State) -> list[str]:
    """Return what is only in one of the two states."""
    return [
        f"{name} {sign} {entry}"
        for name in before
        for sign, one, two in (("-", before, after), ("+", after, before))
        for entry in one[name]
        if entry not in two[name]
    ]


def digests_agree(tenant: Tenant, run: Run) -> bool:
    with tenant_context(tenant) as alias:
        step = Step.objects.using(alias).get(run_id=run.pk, step=STEP)
    content = (Path(django_settings.STORAGE_ROOT) / str(step.output_path)).read_bytes()
    return hashlib.sha256(content).hexdigest() == step.output_digest


def plans() -> Iterator[str]:
    """Yield the points to stop at, then one that does not exist.

    In `make chaos`, yield the numbers 1, 2, 3 … instead, so that the worker stops at each point.
    """
    yield from map(str, count(1)) if "CHAOS_ROUNDS" in os.environ else (*EXPECTED, "nothing has this name")


@pytest.mark.chaos
def test_others_continue_and_nothing_is_written_late(
    tenant: Tenant, make_run: MakeRun, frozen: Frozen, other: Other
) -> None:
    """One worker is frozen at one point after another, and survives."""
    met: list[str] = []
    for plan in plans():
        run, neighbour = make_run(tenant, steps=(STEP,)), make_run(tenant, steps=(STEP,))
        if not frozen.give(tenant, run, plan):
            break
        met.append(frozen.point())
        other.begin()
        assert wait_until(lambda run=run, two=neighbour: completed(tenant, run, two), PATIENCE_S), met[-1]  # type: ignore[misc]
        assert digests_agree(tenant, run) and digests_agree(tenant, neighbour)
        other.pause()
        before = state(tenant)
        frozen.thaw()
        assert changes(before, state(tenant)) == [], (met[-1], log_of(frozen.folder), log_of(other.folder))
        assert frozen.process.poll() is None, met[-1]
    assert [one for one in EXPECTED if not any(one in point for point in met)] == [], met
    # It still does its work.
    assert digests_agree(tenant, run)


@pytest.mark.chaos
@pytest.mark.parametrize("point", ["WITH settled", "os.link .output.json", "INSERT INTO public.audit_logs"])
def test_a_worker_that_lost_its_transaction_fails_no_run(
    tenant: Tenant, make_run: MakeRun, frozen: Frozen, other: Other, point: str
) -> None:
    """The worker continues before another takes over: its lease expires, and the next worker completes the step."""
    run = make_run(tenant, steps=(STEP,))
    assert frozen.give(tenant, run, point)
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in transaction%%')"
    assert tenant.server is not None
    with psycopg.connect(tenant.server.admin_url, autocommit=True) as server:
        assert wait_until(lambda: server.execute(query, [database_of(tenant)]).fetchone() == (False,), PATIENCE_S)
    frozen.thaw()
    assert reload(tenant, run).status != RunStatus.FAILED
    other.begin()
    assert wait_until(lambda: completed(tenant, run), PATIENCE_S)
    assert digests_agree(tenant, run)
    assert "Traceback" not in log_of(frozen.folder)
