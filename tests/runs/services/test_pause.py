"""Pausing: a call in progress is completed and its output kept, and no other call begins."""

import threading

from django.db import connections

from config.stack.process import wait_until
from runs.models import Call, PauseCause, RunStatus, StepStatus
from runs.services.pause import run_pause
from runs.steps.call import call_begin
from runs.steps.sweep import tenant_sweep
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.audit.audited import as_superuser
from tests.runs.driving import STEPS, execute, messages_sent, reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.services.states import FIRST, MakeRun, call_in_progress, change_step, claim, steps_of

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_call_in_progress_ends_and_its_output_is_kept(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
    run = make_run(tenant)
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
    assert outcomes == ["completed"]
    stored = reload(tenant, run)
    assert (stored.status, stored.current_step, stored.pause_cause) == (RunStatus.PAUSED, STEPS[1], PauseCause.PERSON)
    assert steps_of(tenant, run)[FIRST].status == StepStatus.COMPLETED


def test_no_worker_takes_or_is_woken_for_a_step_of_a_paused_run(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant)
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    messages_sent()
    assert execute(tenant, run, FIRST) == "not claimed"
    change_step(tenant, run, FIRST, wake_after="2000-01-01T00:00:00Z")
    with tenant_context(tenant) as alias:
        assert tenant_sweep(alias=alias, tenant_id=tenant.pk) == 0
    assert messages_sent() == []


def test_a_step_that_was_claimed_before_the_pause_begins_no_call_after_it(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant)
    held = claim(tenant, run)
    assert held is not None
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    with tenant_context(tenant) as alias:
        assert call_begin(alias=alias, claim=held, max_input_tokens=1, max_output_tokens=1) is None
        assert not Call.objects.using(alias).exists()


def test_a_call_that_would_begin_while_a_pause_is_being_committed_waits_and_does_not(
    tenant: Tenant, make_run: MakeRun
) -> None:
    run = make_run(tenant)
    held = claim(tenant, run)
    assert held is not None
    begun: list[int | None] = []

    def begin() -> None:
        with tenant_context(tenant) as alias:
            begun.append(call_begin(alias=alias, claim=held, max_input_tokens=1, max_output_tokens=1))
        connections["default"].close()

    worker = threading.Thread(target=begin)
    with as_superuser(tenant) as pausing:
        pausing.execute("UPDATE runs SET status = 'paused', pause_cause = 'person', paused_by = 'x', paused_at = now()")
        worker.start()
        with as_superuser(tenant) as watching:
            assert wait_until(lambda: watching.execute(WAITING).fetchone() == (1,), 30)
        assert begun == []
        pausing.commit()
        worker.join()
    assert begun == [None]


def test_a_run_whose_last_call_ends_while_it_is_paused_is_completed(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM
) -> None:
    run = make_run(tenant, steps=(FIRST,))
    with call_in_progress(tenant, run, fake_llm):
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
    stored = reload(tenant, run)
    assert (stored.status, stored.current_step, stored.pause_cause, stored.paused_by, stored.paused_at) == (
        *(RunStatus.COMPLETED, None),
        *(None, None, None),
    )
