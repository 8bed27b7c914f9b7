"""Workers and wake-ups while their tenant's database is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runs.errors import LeaseLost
from runs.models import Run, RunStatus
from runs.steps.claim import leases_renew, step_claim
from runs.steps.finish import step_complete
from runs.types import Claim, StepOutput
from tenants.models import Tenant
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.routing.context import tenant_context
from tests.runs.driving import finish, messages_sent, reload
from tests.tenants.support.backups import back_up

MakeRun = Callable[..., Run]


def claim(tenant: Tenant, run: Run) -> Claim:
    with tenant_context(tenant) as alias:
        found = step_claim(
            alias=alias, tenant_id=tenant.id, run_id=run.pk, step="keyword_analysis", owner="worker@test"
        )
    assert found is not None
    return found


def output_of(run: Run) -> StepOutput:
    return StepOutput(
        run_id=run.pk,
        step="keyword_analysis",
        provider="openai",
        model="m",
        prompt_id=1,
        prompt_version=1,
        input_digest="0" * 64,
        text="late",
        input_tokens=1,
        output_tokens=1,
        finish_reason="stop",
    )


def test_a_worker_that_was_at_work_when_its_tenant_was_restored_can_keep_nothing(
    tenant: Tenant, make_run: MakeRun, tmp_path: Path
) -> None:
    """One restored state has the step, but not the worker's claim; the other does not have the step at all."""
    empty = back_up(tenant, tmp_path)
    run = make_run(tenant)
    waiting = back_up(tenant, tmp_path)
    held = claim(tenant, run)
    for file in (waiting, empty):
        tenant_restore(tenant_id=tenant.id, backup_file=file, stop_runs=True)
        with tenant_context(tenant) as alias:
            assert leases_renew(alias=alias, claims=[held]) == [held]
            with pytest.raises(LeaseLost):
                step_complete(alias=alias, claim=held, output=output_of(run), llm_seconds=1.0, adopted=False)
        # In the state in which it was made, the claim holds.
        tenant_restore_undo(tenant_id=tenant.id)
        with tenant_context(tenant) as alias:
            assert leases_renew(alias=alias, claims=[held]) == []


def test_a_run_that_waited_is_done_in_the_restored_state(tenant: Tenant, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tenant)
    file = back_up(tenant, tmp_path)
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert reload(tenant, run).status == RunStatus.PENDING
    assert finish(tenant, run)[-1] == "completed"


def test_wake_ups_for_runs_that_are_gone_are_taken_off_the_queue(
    tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun, tmp_path: Path
) -> None:
    tenant, other = tenant_pair
    kept = make_run(tenant)
    file = back_up(tenant, tmp_path)
    make_run(tenant)
    neighbours = make_run(other)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert report.stale_messages == 1
    assert sorted(run for _tenant, run, _step in messages_sent()) == sorted([str(kept.pk), str(neighbours.pk)])
