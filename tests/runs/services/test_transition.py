"""Each transition in each state: what happens, what is refused, and what is recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import product

import pytest
from django.db import connections

from audit.log.actor import acting_as
from audit.models import AuditLog
from runs.errors import RunStateConflict, UnknownRun
from runs.models import PauseCause, Run, RunStatus, StepStatus
from runs.steps.finish import PIPELINE
from runs.summaries.models import RunSummary
from tenants.errors import TenantNotActive
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import messages_sent, reload
from tests.runs.services.states import ACTIONS, FIRST, REVIEWED, STATES, InState, MakeRun, in_state, steps_of
from tests.support.tenant_fixtures import MakeTenant, cloning_fast, remove

__all__ = ["in_state"]

ENTRIES = {
    "pause": "run.pause",
    "resume": "run.resume",
    "retry": "run.retry",
    "retry from": "run.retry",
    "cancel": "run.cancel",
    "approve": "run.approve",
    "send back": "run.send_back",
}
# By state and action: the status afterwards, and the step that a worker is woken for. All others are refused.
POSSIBLE: dict[tuple[str, str], tuple[str, str | None]] = {
    ("pending", "pause"): ("paused", None),
    ("pending", "cancel"): ("failed", None),
    ("running", "pause"): ("paused", None),
    ("running", "cancel"): ("failed", None),
    ("between steps", "pause"): ("paused", None),
    ("between steps", "cancel"): ("failed", None),
    ("paused", "resume"): ("running", REVIEWED),
    ("paused", "retry from"): ("running", FIRST),
    ("paused", "cancel"): ("failed", None),
    ("held", "resume"): ("pending", FIRST),
    ("held", "retry from"): ("pending", FIRST),
    ("held", "cancel"): ("failed", None),
    ("in review", "approve"): ("running", REVIEWED),
    ("in review", "send back"): ("running", FIRST),
    ("in review", "retry from"): ("running", FIRST),
    ("in review", "cancel"): ("failed", None),
    ("failed", "retry"): ("running", REVIEWED),
    ("failed", "retry from"): ("running", FIRST),
}
REFUSED = sorted(set(product(STATES, ACTIONS)) - set(POSSIBLE))


@pytest.fixture(scope="module")
def tenant() -> Iterator[Tenant]:
    """Yield one tenant for all tests of this module."""
    with cloning_fast():
        made = tenant_create(name="transitions")
    yield made
    remove(made)


def rows_of(tenant: Tenant, run: Run) -> list[object]:
    """Return the rows of the run, its steps and its artifacts."""
    with tenant_context(tenant) as alias:
        runs = list(Run.objects.using(alias).filter(pk=run.pk).values())
        steps = list(run.steps.using(alias).order_by("pk").values())
        artifacts = list(run.artifacts.using(alias).order_by("pk").values())
    return [runs, steps, artifacts]


def entries_of(tenant: Tenant, run: Run) -> list[AuditLog]:
    with tenant_context(tenant) as alias:
        return list(AuditLog.objects.using(alias).filter(resource_id=str(run.pk)).order_by("sequence"))


@pytest.mark.parametrize(("state", "action"), sorted(POSSIBLE))
def test_a_possible_transition(state: str, action: str, tenant: Tenant, in_state: InState) -> None:
    run = in_state(state)
    messages_sent()
    before = len(entries_of(tenant, run))
    Tenant.objects.filter(pk=tenant.pk).update(work_seen_at=None)
    with acting_as("operator:ann", operation_id="operation"):
        returned = ACTIONS[action](tenant_id=tenant.pk, run_id=run.pk)
    status, woken = POSSIBLE[state, action]
    stored = reload(tenant, run)
    assert stored.status == returned.status == status
    assert RunSummary.objects.get(tenant_id=tenant.pk, run_id=run.pk).status == status
    assert messages_sent() == ([(tenant.pk, str(run.pk), woken)] if woken else [])
    tenant.refresh_from_db()
    assert tenant.work_seen_at is not None or woken is None, "the sweep must visit the tenant"
    (entry,) = entries_of(tenant, run)[before:]
    assert (entry.action, entry.user_id, entry.operation_id) == (ENTRIES[action], "operator:ann", "operation")
    assert (stored.pause_cause, stored.paused_by, stored.paused_at is not None) == (
        (PauseCause.PERSON, "operator:ann", True) if status == "paused" else (None, None, False)
    )
    if woken:
        step = steps_of(tenant, run)[woken]
        assert stored.current_step == woken
        assert (step.status, step.retry_count, step.error_message) == (StepStatus.PENDING, 0, None)


@pytest.mark.parametrize(("state", "action"), REFUSED)
def test_a_refused_transition_names_the_state_and_changes_nothing(
    state: str, action: str, tenant: Tenant, in_state: InState
) -> None:
    run = in_state(state)
    messages_sent()
    before, entries = rows_of(tenant, run), len(entries_of(tenant, run))
    with pytest.raises(RunStateConflict) as caught:
        ACTIONS[action](tenant_id=tenant.pk, run_id=run.pk)
    status = reload(tenant, run).status
    assert caught.value.status == status
    assert caught.value.code == "run_state_conflict"
    said = "before its review" if (state, action) == ("in review", "resume") else f"its status is {status}"
    assert str(run.pk) in caught.value.message and said in caught.value.message
    assert caught.value.hint
    assert rows_of(tenant, run) == before
    assert len(entries_of(tenant, run)) == entries
    assert messages_sent() == []


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("run_id", ["", "no-id", "0f0e0d0c-0b0a-4908-8706-050403020100", "\x00", "\ud800"])
def test_an_unknown_run_is_refused(action: str, run_id: str, tenant: Tenant) -> None:
    with pytest.raises(UnknownRun):
        ACTIONS[action](tenant_id=tenant.pk, run_id=run_id)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_run_of_another_tenant_is_unknown(
    action: str, tenant: Tenant, make_tenant: MakeTenant, in_state: InState
) -> None:
    theirs = make_tenant()
    state = next(state for state, possible in POSSIBLE if possible == action)
    run = in_state(state, theirs)
    before = rows_of(theirs, run)
    with pytest.raises(UnknownRun):
        ACTIONS[action](tenant_id=tenant.pk, run_id=run.pk)
    assert rows_of(theirs, run) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_a_suspended_tenant_is_refused(action: str, make_tenant: MakeTenant, make_run: MakeRun) -> None:
    suspended = make_tenant()
    run = make_run(suspended)
    tenant_suspend(tenant_id=suspended.pk)
    with pytest.raises(TenantNotActive):
        ACTIONS[action](tenant_id=suspended.pk, run_id=run.pk)


@pytest.mark.parametrize(
    ("state", "one", "other"),
    [
        ("pending", "pause", "pause"),
        ("running", "pause", "cancel"),
        ("paused", "resume", "resume"),
        ("failed", "retry", "retry from"),
        ("in review", "approve", "send back"),
        ("in review", "approve", "cancel"),
    ],
)
def test_of_two_people_at_once_one_succeeds(
    state: str, one: str, other: str, tenant: Tenant, in_state: InState
) -> None:
    """Both begin at the same time; the second finds the run in the state in which the first one left it."""
    run = in_state(state)
    entries = len(entries_of(tenant, run))
    together = threading.Barrier(2)
    outcomes: list[str] = []

    def act(action: str) -> None:
        try:
            together.wait()
            outcomes.append(ACTIONS[action](tenant_id=tenant.pk, run_id=run.pk).status)
        except RunStateConflict as error:
            outcomes.append(f"refused, {error.status}")
        finally:
            connections["default"].close()

    threads = [threading.Thread(target=act, args=[action]) for action in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A paused run may be cancelled, so both may succeed in one order.
    refused = [outcome for outcome in outcomes if outcome.startswith("refused")]
    assert len(outcomes) == 2 and len(refused) <= 1
    assert len(entries_of(tenant, run)) - entries == 2 - len(refused)
    assert len(refused) == 1 or {one, other} in ({"pause", "cancel"}, {"approve", "cancel"})


def test_a_run_that_waits_for_a_review_says_who_paused_it(tenant: Tenant, in_state: InState) -> None:
    run = reload(tenant, in_state("in review"))
    assert (run.status, run.pause_cause, run.paused_by) == (RunStatus.PAUSED, PauseCause.REVIEW, PIPELINE)
    assert run.paused_at is not None and run.current_step == REVIEWED
    with pytest.raises(
        RunStateConflict, match=f"before its review. The run is waiting for a review before step {REVIEWED}: approve it"
    ):
        ACTIONS["resume"](tenant_id=tenant.pk, run_id=run.pk)
