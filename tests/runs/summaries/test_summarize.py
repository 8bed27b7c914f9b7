"""The control database's summaries match the runs, whatever fails and whichever process is faster."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.utils import timezone

from runs.models import Run, RunStatus, Step
from runs.summaries import summarize
from runs.summaries.models import RunSummary
from runs.summaries.rows import Row, present_rows, read_rows, write_rows
from runs.summaries.summarize import summarize_on_commit, tenant_summarize
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.pool import version_of
from tests.runs.summaries.changed import add, change, fail, is_exact, is_summarized, summary
from tests.support.forked import forked


def test_a_summary_has_what_the_run_has(tenant: Tenant) -> None:
    run_id = add(tenant)
    row = summary(run_id)
    assert (row.tenant_id, row.status, row.current_step, row.pause_cause) == (tenant.pk, "pending", "outline", None)
    assert (row.error, row.error_step, row.is_truncated, row.ended_at) == (None, None, False, None)
    change(tenant, run_id, status=RunStatus.PAUSED, pause_cause="person")
    row = summary(run_id)
    assert (row.status, row.pause_cause, row.ended_at) == ("paused", "person", None)
    assert is_summarized(tenant, run_id)
    assert is_exact(tenant)


def test_a_failed_run_has_the_beginning_of_its_error_and_no_content(tenant: Tenant) -> None:
    run_id = add(tenant, keyword="a customer's keyword")
    fail(tenant, run_id, "x" * 2000)
    row = summary(run_id)
    assert (row.status, row.error_step, row.error) == ("failed", "outline", "x" * 500)
    assert row.ended_at == row.updated_at
    columns = [getattr(row, field.attname) for field in RunSummary._meta.concrete_fields]
    assert "a customer's keyword" not in str(columns)


def test_an_error_of_a_run_that_goes_on_is_left_out(tenant: Tenant) -> None:
    run_id = add(tenant)
    fail(tenant, run_id, "no")
    change(tenant, run_id, status=RunStatus.RUNNING)
    assert (summary(run_id).error, summary(run_id).ended_at) == (None, None)


def test_a_truncated_output_is_marked(tenant: Tenant) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run_id, step="draft").update(is_truncated=True)
    change(tenant, run_id, status=RunStatus.COMPLETED, current_step=None)
    row = summary(run_id)
    assert row.is_truncated and row.ended_at == row.updated_at


def test_a_transaction_that_is_rolled_back_leaves_the_summary(tenant: Tenant) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        Run.objects.using(alias).filter(pk=run_id).update(status=RunStatus.FAILED)
        summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run_id)
        transaction.set_rollback(True, using=alias)
    assert summary(run_id).status == "pending"
    assert is_summarized(tenant, run_id)


# -- the trigger -------------------------------------------------------------------------------------------------------


def test_every_change_outdates_the_summary_but_noting_it_is_no_change(tenant: Tenant) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).filter(pk=run_id)
        before = run.get()
        assert before.is_summarized
        run.update(is_summarized=False)
        run.update(is_summarized=True)
        assert run.get().updated_at == before.updated_at
        # Not even a program that does not know the column can forget it.
        run.update(current_step="draft", is_summarized=True)
        after = run.get()
    assert not after.is_summarized
    assert after.updated_at > before.updated_at


def test_a_transaction_that_waited_for_another_has_the_later_time(tenant: Tenant) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT now()")  # sets the time of the transaction's start
        with forked(_change_once, tenant.pk, run_id) as (process, _heard):
            process.join()
            assert process.exitcode == 0
        other = Run.objects.using(alias).get(pk=run_id)
        assert other.status == "paused"
        Run.objects.using(alias).filter(pk=run_id).update(status=RunStatus.RUNNING)
        assert Run.objects.using(alias).get(pk=run_id).updated_at > other.updated_at


def _change_once(said: Connection, tenant_id: str, run_id: UUID) -> None:
    change(Tenant.objects.get(pk=tenant_id), run_id, status=RunStatus.PAUSED, pause_cause="person")


# -- order and guards --------------------------------------------------------------------------------------------------


def test_an_older_state_never_replaces_a_newer_one(tenant: Tenant) -> None:
    run_id = add(tenant)
    [older] = _rows(tenant, run_id)
    change(tenant, run_id, status=RunStatus.RUNNING)
    assert write_rows(tenant.pk, [older], version=None)
    assert summary(run_id).status == "running"


def test_a_state_that_was_read_before_the_tenant_was_closed_is_not_written(tenant: Tenant) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias:
        version = version_of(alias)
        with transaction.atomic(using=alias):
            Run.objects.using(alias).filter(pk=run_id).update(status=RunStatus.RUNNING)
            summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run_id)
            tenant_suspend(tenant_id=tenant.pk)
            tenant_resume(tenant_id=tenant.pk)
        [row] = read_rows(Run.objects.using(alias).filter(pk=run_id))
        assert not write_rows(tenant.pk, [row], version=version)
        assert not tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert summary(run_id).status == "pending"
    assert not is_summarized(tenant, run_id)
    with tenant_context(tenant) as alias:
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert summary(run_id).status == "running"


def _rows(tenant: Tenant, run_id: UUID) -> list[Row]:
    with tenant_context(tenant) as alias:
        return read_rows(Run.objects.using(alias).filter(pk=run_id))


# -- the sweep's part --------------------------------------------------------------------------------------------------


def test_the_sweep_writes_what_is_outdated_in_batches(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarize, "BATCH", 2)
    with tenant_context(tenant) as alias:
        runs = [Run.objects.using(alias).create(status="pending") for _ in range(5)]
        assert present_rows(tenant.pk) == {}
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
        assert present_rows(tenant.pk).keys() == {run.pk for run in runs}
        assert not Run.objects.using(alias).filter(is_summarized=False).exists()


def test_the_sweep_leaves_a_rest_to_the_next_one(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summarize, "BATCH", 2)
    monkeypatch.setattr(summarize, "BATCHES", 1)
    with tenant_context(tenant) as alias:
        for _ in range(3):
            Run.objects.using(alias).create(status="pending")
        assert not tenant_summarize(alias=alias, tenant_id=tenant.pk)
        assert len(present_rows(tenant.pk)) == 2
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert is_exact(tenant)


def test_a_run_that_changes_while_it_is_summarized_stays_outdated(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add(tenant)

    def change_then_write(tenant_id: str, rows: list[Row], **options: Any) -> bool:
        with forked(_change_once, tenant_id, run_id) as (process, _heard):
            process.join()
        return write_rows(tenant_id, rows, **options)

    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run_id).update(is_summarized=False)
        monkeypatch.setattr(summarize, "write_rows", change_then_write)
        assert not tenant_summarize(alias=alias, tenant_id=tenant.pk)
    # The other process has summarized its own change; the older state came later and was not written.
    assert summary(run_id).status == "paused"
    assert is_summarized(tenant, run_id)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_lost_control_database_does_not_fail_the_transition(tenant: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    run_id = add(tenant)
    with tenant_context(tenant) as alias:
        with transaction.atomic(using=alias):
            Run.objects.using(alias).filter(pk=run_id).update(status=RunStatus.RUNNING)
            summarize_on_commit(alias=alias, tenant_id=tenant.pk, run_id=run_id)
            _end_control_session()
        assert Run.objects.using(alias).get(pk=run_id).status == "running"
        # The connection is usable again.
        assert summary(run_id).status == "pending"
        [logged] = [entry for entry in caplog.records if entry.message == "run not summarized"]
        assert (logged.tenant, logged.run_id, logged.levelname) == (tenant.pk, str(run_id), "WARNING")  # type: ignore[attr-defined]
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert summary(run_id).status == "running"


def _end_control_session() -> None:
    """End this process's session on the control database, as a restart of the server does."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    with connections.create_connection("default").cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        other.connection.close()


@pytest.mark.parametrize(("moment", "written"), [("before", "pending"), ("after", "running")])
def test_killed_around_the_write_to_the_control_database(tenant: Tenant, moment: str, written: str) -> None:
    run_id = add(tenant)
    with forked(_change_and_die, tenant.pk, run_id, moment) as (process, heard):
        process.join()
        assert process.exitcode == -signal.SIGKILL, heard.recv()
    assert summary(run_id).status == written
    assert not is_summarized(tenant, run_id)
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).get(pk=run_id).status == "running"
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert is_summarized(tenant, run_id)
    assert is_exact(tenant)


def _change_and_die(said: Connection, tenant_id: str, run_id: UUID, moment: str) -> None:
    def write_and_die(*arguments: Any, **options: Any) -> bool:
        if moment == "after":
            write_rows(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    summarize.write_rows = write_and_die  # type: ignore[attr-defined]
    change(Tenant.objects.get(pk=tenant_id), run_id, status=RunStatus.RUNNING)


def test_processes_that_change_the_same_runs_at_once_leave_exact_summaries(tenant: Tenant) -> None:
    runs = [add(tenant) for _ in range(3)]
    started = timezone.now()
    with forked(_change_often, tenant.pk, runs) as (one, _), forked(_change_often, tenant.pk, runs) as (other, _):
        while one.is_alive() or other.is_alive():
            with tenant_context(tenant) as alias:
                tenant_summarize(alias=alias, tenant_id=tenant.pk)
        assert (one.exitcode, other.exitcode) == (0, 0)
    with tenant_context(tenant) as alias:
        assert tenant_summarize(alias=alias, tenant_id=tenant.pk)
    assert is_exact(tenant)
    assert all(row.updated_at > started - timedelta(minutes=1) for row in present_rows(tenant.pk).values())


def _change_often(said: Connection, tenant_id: str, runs: list[UUID]) -> None:
    tenant = Tenant.objects.get(pk=tenant_id)
    for _ in range(30):
        for run_id in runs:
            change(tenant, run_id, status=RunStatus.RUNNING)
            change(tenant, run_id, status=RunStatus.PAUSED)
