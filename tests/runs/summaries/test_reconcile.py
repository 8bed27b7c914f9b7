"""`run reconcile`: what it finds, what it rebuilds, and what it leaves alone."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.db.models import QuerySet
from django.utils import timezone
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from runs.errors import TenantReplaced
from runs.models import Run, RunStatus
from runs.summaries import reconcile
from runs.summaries.models import RunSummary
from runs.summaries.reconcile import run_reconcile, tenant_rebuild
from runs.summaries.rows import Row, present_rows, read_rows, write_rows
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.routing.context import tenant_context
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.runs.summaries.changed import add, change, fail, is_exact, summary
from tests.support.forked import forked
from tests.support.tenant_fixtures import remove
from tests.tenants.support.backups import back_up
from tests.tenants.support.erased import forget_erasure
from tests.tenants.support.killed import die_at


def checked(tenant: Tenant) -> dict[str, tuple[str, list[str]]]:
    """Check the tenant's summaries; return the kind and the columns of each difference, by run id."""
    [found] = run_reconcile(tenant_id=tenant.pk, check=True)
    assert found.difference_count == len(found.differences)
    return {one.run_id: (one.kind, one.columns) for one in found.differences}


def tamper(tenant: Tenant) -> tuple[UUID, UUID, UUID]:
    """Make one summary differ, remove one, and add one of a run that does not exist; return the runs' ids."""
    different, missing, surplus = add(tenant), add(tenant), uuid4()
    present = RunSummary.objects.filter(tenant_id=tenant.pk)
    present.filter(run_id=different).update(status="completed", error="x")
    present.filter(run_id=missing).delete()
    now = timezone.now()
    RunSummary.objects.create(
        tenant_id=tenant.pk, run_id=surplus, status="running", is_truncated=False, created_at=now, updated_at=now
    )
    return different, missing, surplus


def test_differences_are_found_and_rebuilt(tenant_pair: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, other = tenant_pair
    # Several batches, whose ends fall on runs that differ and on runs that do not.
    monkeypatch.setattr(reconcile, "BATCH", 2)
    for _ in range(4):
        add(tenant)
    different, missing, surplus = tamper(tenant)
    neighbours = tamper(other)
    found = {
        str(different): ("different", ["status", "error"]),
        str(missing): ("missing", []),
        str(surplus): ("surplus", []),
    }
    assert checked(tenant) == found
    assert checked(tenant) == found, "checking changes nothing"
    [rebuilt] = run_reconcile(tenant_id=tenant.pk)
    assert (rebuilt.runs, rebuilt.difference_count, rebuilt.waiting) == (6, 3, 0)
    assert {one.run_id for one in rebuilt.differences} == found.keys()
    assert checked(tenant) == {}
    assert is_exact(tenant)
    assert set(checked(other)) == {str(run_id) for run_id in neighbours}


def test_a_rebuild_is_recorded_and_a_check_is_not(tenant: Tenant) -> None:
    tamper(tenant)
    entries = ControlAuditLog.objects.filter(action="run.reconcile", resource_id=tenant.pk)
    run_reconcile(tenant_id=tenant.pk, check=True)
    assert not entries.exists()
    run_reconcile(tenant_id=tenant.pk)
    assert entries.get().details == {"runs": 2, "replaced": 3}


def test_a_summary_that_the_sweep_is_about_to_write_is_no_difference(tenant: Tenant, settings: Settings) -> None:
    add(tenant)
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).create(status="pending")
    [found] = run_reconcile(tenant_id=tenant.pk, check=True)
    assert (found.waiting, found.difference_count) == (1, 0)
    # It becomes a difference if no sweep comes.
    settings.RUN_SWEEP_INTERVAL_S = 0.0
    assert checked(tenant) == {str(run.pk): ("missing", [])}


def test_a_run_that_changes_between_both_reads_is_no_difference(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add(tenant)

    def read_then_change(*arguments: Any, **conditions: Any) -> Any:
        # The tenant's database has been read, the control database has not.
        monkeypatch.setattr(reconcile, "present_rows", present_rows)
        with forked(_change, tenant.pk, run_id) as (process, _heard):
            process.join()
        return present_rows(*arguments, **conditions)

    monkeypatch.setattr(reconcile, "present_rows", read_then_change)
    assert checked(tenant) == {}
    assert summary(run_id).status == "running"


def _change(said: Connection, tenant_id: str, run_id: UUID) -> None:
    change(Tenant.objects.get(pk=tenant_id), run_id, status=RunStatus.RUNNING)


def test_a_rebuild_loses_nothing_that_workers_write_meanwhile(tenant: Tenant) -> None:
    runs = [add(tenant) for _ in range(3)]
    rebuilt = 0
    with forked(_change_often, tenant.pk, runs) as (one, _), forked(_change_often, tenant.pk, runs) as (other, _):
        while one.is_alive() or other.is_alive():
            RunSummary.objects.filter(tenant_id=tenant.pk, run_id=runs[0]).update(status="completed")
            RunSummary.objects.filter(tenant_id=tenant.pk, run_id=runs[1]).delete()
            [found] = run_reconcile(tenant_id=tenant.pk)
            rebuilt += found.difference_count
        assert (one.exitcode, other.exitcode) == (0, 0)
    run_reconcile(tenant_id=tenant.pk)
    assert rebuilt > 0
    assert is_exact(tenant)


def test_no_one_writes_or_closes_the_tenant_while_summaries_are_replaced(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def read_as_another_process_tries(runs: QuerySet[Run]) -> list[Row]:
        if connections["default"].in_atomic_block:
            other = connections.create_connection("default")
            with pytest.raises(OperationalError, match="could not obtain lock"), other.cursor() as cursor:
                cursor.execute("SELECT FROM tenants WHERE id = %s FOR SHARE NOWAIT", [tenant.pk])
            other.close()
            refused.append(True)
        return read_rows(runs)

    tamper(tenant)
    monkeypatch.setattr(reconcile, "read_rows", read_as_another_process_tries)
    run_reconcile(tenant_id=tenant.pk)
    assert refused == [True]
    assert is_exact(tenant)


def _change_often(said: Connection, tenant_id: str, runs: list[UUID]) -> None:
    tenant = Tenant.objects.get(pk=tenant_id)
    for _ in range(40):
        for run_id in runs:
            change(tenant, run_id, status=RunStatus.RUNNING)
            change(tenant, run_id, status=RunStatus.PAUSED)


def test_a_suspended_tenant_is_compared_too(tenant: Tenant) -> None:
    tamper(tenant)
    tenant_suspend(tenant_id=tenant.pk)
    [found] = run_reconcile(tenant_id=tenant.pk)
    assert found.difference_count == 3
    tenant_resume(tenant_id=tenant.pk)
    assert is_exact(tenant)


def test_a_tenant_that_was_moved_meanwhile_is_left_alone(tenant: Tenant) -> None:
    tamper(tenant)
    before = present_rows(tenant.pk)
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).exists()
        tenant_suspend(tenant_id=tenant.pk)
        tenant_resume(tenant_id=tenant.pk)
        with pytest.raises(TenantReplaced):
            tenant_rebuild(alias=alias, tenant_id=tenant.pk)
    assert present_rows(tenant.pk) == before


# -- the command -------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("run_reconcile", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_exits_1_if_a_check_finds_differences(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    different, missing, surplus = tamper(tenant)
    with pytest.raises(CommandError) as caught:
        call_command("run_reconcile", "--tenant-id", tenant.pk, "--check")
    assert str(caught.value) == (
        "There are 3 differences between the control database's summaries and the runs. Run the command without"
        " --check to rebuild the summaries."
    )
    shown = capsys.readouterr().out
    said = {str(different): "differs in status, error", str(missing): "no summary", str(surplus): "no such run"}
    assert all(re.search(f"{run} +{text} *$", shown, re.MULTILINE) for run, text in said.items())
    call_command("run_reconcile", "--tenant-id", tenant.pk)
    capsys.readouterr()
    call_command("run_reconcile", "--tenant-id", tenant.pk, "--check")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_tenant_that_cannot_be_reached_does_not_stop_the_others(tenant_pair: tuple[Tenant, Tenant]) -> None:
    broken, tenant = tenant_pair
    tamper(tenant)
    url = broken.database_url
    Tenant.objects.filter(pk=broken.pk).update(database_url=url.rpartition("/")[0] + "/nowhere", connection_version=7)
    try:
        out = StringIO()
        with pytest.raises(CommandError, match=f"{broken.pk}: ") as caught:
            call_command("run_reconcile", "--all", "--json", stdout=out)
        found = {one["tenant_id"]: one for one in json.loads(out.getvalue())}
        assert found[broken.pk]["problem"] and not found[tenant.pk]["problem"]
        assert found[tenant.pk]["difference_count"] == 3
        assert tenant.pk not in str(caught.value)
        assert is_exact(tenant)
    finally:
        Tenant.objects.filter(pk=broken.pk).update(database_url=url, connection_version=8)


def test_an_unknown_tenant_is_one_sentence() -> None:
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        command("--tenant-id", "nobody")


# -- when a tenant's database is replaced, copied or erased ------------------------------------------------------------


def test_a_restore_and_its_undo_bring_the_summaries_along(tenant: Tenant, tmp_path: Path) -> None:
    completed, failed = add(tenant), add(tenant)
    change(tenant, completed, status=RunStatus.COMPLETED, current_step=None)
    file = back_up(tenant, tmp_path)
    # Later states, which would win if only the times counted; and a run that the backup does not have.
    fail(tenant, completed, "changed after the backup")
    fail(tenant, failed, "after the backup")
    later = add(tenant)
    tenant_restore(tenant_id=tenant.pk, backup_file=file)
    assert is_exact(tenant)
    assert present_rows(tenant.pk).keys() == {completed, failed}
    assert (summary(completed).status, summary(completed).error) == ("completed", None)
    # It was about to start in the one state, and had failed in the other.
    assert summary(failed).error not in (None, "after the backup")
    tenant_restore_undo(tenant_id=tenant.pk)
    assert is_exact(tenant)
    assert summary(completed).error == "changed after the backup"
    assert summary(later).status == "pending"


def test_what_was_read_from_the_replaced_database_is_never_written(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    run_id = add(tenant)
    with tenant_context(tenant) as alias:
        rows = read_rows(Run.objects.using(alias).filter(pk=run_id))
        version = tenant.connection_version
    tenant_restore(tenant_id=tenant.pk, backup_file=file)
    assert present_rows(tenant.pk) == {}
    assert not write_rows(tenant.pk, rows, version=version)
    assert present_rows(tenant.pk) == {}


@pytest.mark.chaos
def test_a_restore_that_was_killed_after_the_swap_summarizes_when_it_is_recovered(
    tenant: Tenant, tmp_path: Path
) -> None:
    run_id = add(tenant)
    file = back_up(tenant, tmp_path)
    fail(tenant, run_id, "after the backup")
    die_at("reconcile", "tenant_restore", tenant_id=tenant.pk, backup_file=file)
    assert summary(run_id).error == "after the backup"
    call_command("tenant_recover", stdout=StringIO())
    assert is_exact(tenant)
    assert summary(run_id).error != "after the backup"


def test_a_clone_and_an_imported_tenant_have_summaries_of_their_own(tenant: Tenant, tmp_path: Path) -> None:
    ended, waiting = add(tenant), add(tenant)
    fail(tenant, ended, "no")
    before = present_rows(tenant.pk)
    bundle = str(tmp_path / "bundle.tar")
    tenant_export(tenant_id=tenant.pk, output=bundle)
    made = [
        tenant_clone(tenant_id=tenant.pk, new_id=f"clone-{uuid4().hex[:8]}", backup_file=back_up(tenant, tmp_path)),
        tenant_import(file=bundle, new_id=f"import-{uuid4().hex[:8]}"),
    ]
    for report in made:
        new = Tenant.objects.get(pk=report.tenant_id)
        assert is_exact(new)
        # A run that had not ended is settled in a copy.
        assert {run: row.status for run, row in present_rows(new.pk).items()} == {ended: "failed", waiting: "failed"}
        remove(new)
        assert present_rows(new.pk) == {}
    assert present_rows(tenant.pk) == before


def test_an_erasure_removes_and_certifies_the_summaries(tenant_pair: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenant_pair
    fail(tenant, add(tenant), "no")
    rows, kept = list(present_rows(tenant.pk).values()), add(other)
    row = tenant_delete(tenant_id=tenant.pk)
    assert row.certificate is not None
    assert row.certificate["erased"]["run_summaries"] == 1
    assert present_rows(tenant.pk) == {}
    assert summary(kept).status == "pending"
    # A worker that is late writes nothing.
    assert not write_rows(tenant.pk, rows, version=tenant.connection_version)
    assert [check.problems for check in erasures_verify(tenant_id=tenant.pk)] == [[]]
    # And if someone brings one back, it is found.
    write_rows(tenant.pk, rows, version=None)
    [check] = erasures_verify(tenant_id=tenant.pk)
    assert check.problems == ["The control database holds 1 row about the tenant's runs and costs."]
    RunSummary.objects.filter(tenant_id=tenant.pk).delete()
    forget_erasure(row)


def test_waiting_is_measured_by_the_databases_clock(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).create(status="pending", updated_at=timezone.now() - timedelta(days=1))
    assert checked(tenant) == {str(run.pk): ("missing", [])}
