"""A retry from the first step is killed just before a statement, a commit or a file operation.

This is tried at every fourth such point; in `make chaos`, at every one.

Afterwards, either all of it has happened, or files were copied and nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import pytest
from django.db.backends.signals import connection_created

from audit.models import AuditLog
from runs.models import Artifact, Run, RunStatus, Step
from runs.services.create import run_create
from runs.services.pause import run_pause
from runs.services.retry import run_retry
from tenants.models import Tenant
from tenants.naming import TENANT_PREFIX
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, reload
from tests.runs.services.states import FIRST, complete_by_hand
from tests.support.forked import forked

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
FILE_EVENTS = ("os.link", "os.rename")
# Every point in `make chaos`.
STRIDE = 1 if "CHAOS_ROUNDS" in os.environ else 4


def retry_and_die(said: Connection, point: int, tenant_id: str, run_id: UUID) -> None:
    """Retry the run from its first step, and die just before the given point; report if it is never reached."""
    from tenants.routing.backend.base import DatabaseWrapper

    passed = count(1)

    def reach() -> None:
        if next(passed) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(execute: Callable[..., Any], *arguments: Any) -> Any:
        reach()
        return execute(*arguments)

    def watch(connection: Any, **_signal: Any) -> None:
        if connection.alias.startswith(TENANT_PREFIX):
            connection.execute_wrappers.append(statement)

    def of_files(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and any("/storage/" in str(argument) for argument in arguments):
            reach()

    backend: Any = DatabaseWrapper
    commit = backend._commit

    def committed(self: Any) -> Any:
        reach()
        return commit(self)

    backend._commit = committed
    connection_created.connect(watch)
    sys.addaudithook(of_files)
    run_retry(tenant_id=tenant_id, run_id=run_id, from_step=FIRST)
    said.send("not reached")


def state_of(tenant: Tenant, run: Run) -> list[object]:
    with tenant_context(tenant) as alias:
        steps = Step.objects.using(alias).filter(run=run).order_by("position")
        paths = Artifact.objects.using(alias).filter(run=run).order_by("file_path")
        return [
            Run.objects.using(alias).values_list("status", "current_step").get(pk=run.pk),
            list(steps.values_list("status", "version", "output_digest")),
            list(paths.values_list("file_path", "digest")),
            AuditLog.objects.using(alias).filter(action="run.retry").count(),
        ]


def test_a_retry_that_is_killed_can_be_repeated(tenant: Tenant) -> None:
    run = run_create(tenant_id=tenant.pk, config={"keyword": "coffee", "language": "en", "steps": list(STEPS[:3])})
    killed_before = killed_after = 0
    for point in count(1, STRIDE):
        for step in STEPS[:2]:
            complete_by_hand(tenant, run, step, f"{step} {point}")
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
        before = state_of(tenant, run)
        with forked(retry_and_die, point, tenant.pk, run.pk) as (process, heard):
            process.join()
            if process.exitcode != -signal.SIGKILL:
                assert heard.recv() == "not reached"
                break
        if state_of(tenant, run) == before:
            killed_before += 1
            run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
        else:
            killed_after += 1
        assert_replaced(tenant, run, before)
    # Some of the points are before the commit, and the last ones are after it.
    assert killed_before > 2, (killed_before, killed_after)


def assert_replaced(tenant: Tenant, run: Run, before: list[Any]) -> None:
    """Check that the run was retried once, and that the outputs that it had are kept with their digests."""
    _run, steps, artifacts, entries = state_of(tenant, run)
    assert reload(tenant, run).status == RunStatus.RUNNING
    assert entries == before[3] + 1
    assert [row[1] for row in steps] == [before[1][0][1] + 1, before[1][1][1] + 1, 1]  # type: ignore[attr-defined]
    kept = dict(artifacts)  # type: ignore[call-overload]
    for step, (_status, version, digest) in zip(STEPS, before[1][:2], strict=False):
        assert kept[f"storage/{tenant.pk}/{run.pk}/{step}/versions/{version}/output.json"] == digest
        assert f"storage/{tenant.pk}/{run.pk}/{step}/versions/{version}/artifacts/{step}.md" in kept
    assert all("/versions/" in path for path in kept)
