"""The rows of calls: committed before the request, settled once, and added up to the cost of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from django.utils import timezone
from psycopg.rows import dict_row
from pytest_django import Settings

from audit.models import AuditLog
from runs.models import Call, CallStatus, Run, RunCost, RunStatus, Step, StepStatus
from runs.services.cancel import run_cancel
from runs.services.pause import run_pause
from runs.steps import execute as executing
from runs.steps.call import CallEnd, call_begin, call_mark_unknown, call_settle
from runs.steps.prepare import Work, prepare
from runs.steps.sweep import calls_of_lost_workers
from runs.types import Claim
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.servers.session import owner_url
from tests.runs.driving import STEPS, execute, finish, reload, standard_model
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.runs.services.states import FIRST, call_in_progress, change_step, claim, steps_of

MakeRun = Callable[..., Run]
USED = {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
# USD per 1,000 tokens.
PRICES = {"cost_per_1k_input_tokens": Decimal("0.5"), "cost_per_1k_output_tokens": Decimal("2")}


@pytest.fixture
def model_with() -> Iterator[Callable[..., None]]:
    """Yield a function that changes the context window and prices of `make_run`'s model; restore them afterwards."""
    row = standard_model()
    names = ("context_window", *PRICES)
    before = {name: getattr(row, name) for name in names}

    def change(**values: object) -> None:
        type(row).objects.filter(pk=row.pk).update(**values)

    yield change
    change(**before)


def lapse(tenant: Tenant, run: Run) -> None:
    change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))


def calls_of(tenant: Tenant, run: Run) -> list[Call]:
    with tenant_context(tenant) as alias:
        return list(Call.objects.using(alias).filter(run_id=run.pk).order_by("id"))


def cost_of(tenant: Tenant, run: Run) -> RunCost:
    with tenant_context(tenant) as alias:
        return RunCost.objects.using(alias).get(run_id=run.pk)


def begin(tenant: Tenant, held: Claim | None, *, max_input_tokens: int = 50, max_output_tokens: int = 100) -> int:
    """Record the beginning of a call, and return the call's id."""
    assert held is not None
    with tenant_context(tenant) as alias:
        call_id = call_begin(
            alias=alias, claim=held, max_input_tokens=max_input_tokens, max_output_tokens=max_output_tokens
        )
    assert call_id is not None
    return call_id


def test_a_call_is_committed_before_its_request_is_sent_and_settled_after_the_reply(
    tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    """The fake provider reads the database, over a connection of its own."""
    assert tenant.server is not None
    url, seen = owner_url(tenant.server, database_of(tenant)), list[dict[str, object]]()
    reply_to = fake_llm.reply_to

    def looking(request: dict[str, object]) -> Answer:
        with psycopg.connect(url, row_factory=dict_row) as other:
            seen.extend(other.execute("SELECT * FROM calls").fetchall())
        return reply_to(request)

    fake_llm.reply_to = looking  # type: ignore[method-assign]
    assert execute(tenant, run, FIRST) == "completed"
    [before], [after], step = seen, calls_of(tenant, run), steps_of(tenant, run)[FIRST]
    assert (before["id"], before["status"], before["token_usage"], before["ended_at"]) == (after.pk, "open", None, None)
    assert (before["attempt"], before["lease_token"], before["version"]) == (1, 1, 1)
    assert (before["llm_provider"], before["llm_model"]) == (step.llm_provider, step.llm_model)
    [request] = fake_llm.requests
    assert before["max_output_tokens"] == request["max_completion_tokens"]
    assert int(str(before["max_input_tokens"])) > len(fake_llm.prompts[0].encode())
    assert (after.status, after.token_usage, after.finish_reason, after.error_code) == ("settled", USED, "stop", None)
    assert after.request_id == fake_llm.ledger[0].request_id
    assert after.ended_at is not None and after.ended_at >= after.started_at


def test_each_attempt_has_a_call_of_its_own(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.extend([Answer(status=503), Answer(fault="cut"), Answer()])
    for outcome in ("retried", "retried", "completed"):
        assert execute(tenant, run, FIRST) == outcome
        change_step(tenant, run, FIRST, not_before=None)
    refused, cut, answered = calls_of(tenant, run)
    # A call that ended with an error status is not billed; for an interrupted reply, no one knows.
    assert (refused.status, refused.attempt, refused.token_usage) == (CallStatus.SETTLED, 1, {})
    assert (cut.status, cut.attempt, cut.token_usage) == (CallStatus.UNKNOWN, 2, None)
    assert refused.error_code and cut.error_code and cut.ended_at is not None
    assert (answered.status, answered.attempt, answered.token_usage) == (CallStatus.SETTLED, 3, USED)
    assert steps_of(tenant, run)[FIRST].token_usage == USED
    assert cost_of(tenant, run).unknown_calls == 1


def test_the_call_of_a_killed_worker_is_unknown_once_its_step_is_taken_over(tenant: Tenant, run: Run) -> None:
    call_id = begin(tenant, claim(tenant, run))
    lapse(tenant, run)
    assert [call.status for call in calls_of(tenant, run)] == [CallStatus.OPEN]
    assert claim(tenant, run) is not None
    [call] = calls_of(tenant, run)
    assert (call.pk, call.status, call.token_usage) == (call_id, CallStatus.UNKNOWN, None)
    assert call.ended_at is not None


def test_a_worker_that_was_only_frozen_settles_its_unknown_call_late_and_once(tenant: Tenant, run: Run) -> None:
    held = claim(tenant, run)
    call_id = begin(tenant, held)
    assert held is not None
    lapse(tenant, run)
    assert execute(tenant, run, FIRST) == "completed"
    assert [call.status for call in calls_of(tenant, run)] == [CallStatus.UNKNOWN, CallStatus.SETTLED]
    with tenant_context(tenant) as alias:
        for _repetition in range(2):
            call_settle(alias=alias, claim=held, call_id=call_id, end=CallEnd({"input": 7, "output": 3}, "req_late"))
        call_mark_unknown(alias=alias, claim=held, call_id=call_id, error_code="late")
    late = calls_of(tenant, run)[0]
    assert (late.status, late.token_usage, late.request_id) == (
        CallStatus.SETTLED,
        {"input": 7, "output": 3},
        "req_late",
    )
    assert late.error_code is None
    assert steps_of(tenant, run)[FIRST].token_usage == {"input": INPUT_TOKENS + 7, "output": OUTPUT_TOKENS + 3}
    assert cost_of(tenant, run).unknown_calls == 0


def test_tokens_are_added_up_unit_by_unit(tenant: Tenant, run: Run) -> None:
    held = claim(tenant, run)
    assert held is not None
    first, second = begin(tenant, held), begin(tenant, held)
    with tenant_context(tenant) as alias:
        used = {"input": 7, "output": 3, "cached_read": 5}
        call_settle(alias=alias, claim=held, call_id=first, end=CallEnd(used))
        call_settle(alias=alias, claim=held, call_id=second, end=CallEnd({"input": 1, "output": 2, "reasoning": 2}))
    expected = {"input": 8, "output": 5, "cached_read": 5, "reasoning": 2}
    assert steps_of(tenant, run)[FIRST].token_usage == expected


def test_the_call_of_a_cancelled_run_is_settled_by_its_worker(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        run_cancel(tenant_id=tenant.pk, run_id=run.pk)
        assert [call.status for call in calls_of(tenant, run)] == [CallStatus.OPEN]
    assert outcomes == ["lost"]
    [call] = calls_of(tenant, run)
    assert (call.status, call.token_usage) == (CallStatus.SETTLED, USED)
    assert (reload(tenant, run).status, cost_of(tenant, run).total_output_tokens) == (RunStatus.FAILED, OUTPUT_TOKENS)


def test_the_reply_to_a_lost_lease_counts_in_the_runs_cost(
    tenant: Tenant,
    run: Run,
    fake_llm: FakeLLM,
    model_with: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model_with(**PRICES)
    # As if this worker were frozen.
    monkeypatch.setattr("runs.steps.in_flight.InFlight._renew_all", lambda *_: None)
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        lapse(tenant, run)
        assert execute(tenant, run, FIRST, owner="other") == "completed"
        assert cost_of(tenant, run).total_llm_cost == Decimal("0.9")
    assert outcomes == ["lost"]
    assert [call.status for call in calls_of(tenant, run)] == [CallStatus.SETTLED] * 2
    cost = cost_of(tenant, run)
    assert (cost.total_input_tokens, cost.total_output_tokens) == (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS)
    assert (cost.total_llm_cost, cost.unknown_calls, cost.unknown_cost_limit) == (Decimal("1.8"), 0, None)


def test_the_limit_of_the_unknown_cost_is_exact(tenant: Tenant, run: Run, model_with: Callable[..., None]) -> None:
    model_with(**PRICES)
    begin(tenant, claim(tenant, run), max_input_tokens=1234, max_output_tokens=567)
    lapse(tenant, run)
    begin(tenant, claim(tenant, run), max_input_tokens=1, max_output_tokens=1)
    assert cost_of(tenant, run).unknown_calls == 1
    lapse(tenant, run)
    assert finish(tenant, run) == ["completed"] * len(STEPS)
    cost = cost_of(tenant, run)
    # 1.234 * 0.5 + 0.567 * 2, and 0.001 * 0.5 + 0.001 * 2
    assert (cost.unknown_calls, cost.unknown_cost_limit) == (2, Decimal("1.751") + Decimal("0.0025"))
    assert (cost.total_llm_cost, cost.unpriced_steps) == (4 * Decimal("0.9"), 0)


def test_the_sweep_gives_up_calls_whose_claim_is_lost_but_no_others(
    tenant: Tenant, make_run: MakeRun, settings: Settings
) -> None:
    settings.LLM_TIMEOUT_S = settings.RUN_LEASE_S = 60.0
    current, cancelled, fresh = (make_run(tenant) for _ in range(3))
    for run in (current, cancelled, fresh):
        begin(tenant, claim(tenant, run))
    for run in (cancelled, fresh):
        run_cancel(tenant_id=tenant.pk, run_id=run.pk)
    with tenant_context(tenant) as alias:
        calls = Call.objects.using(alias).filter(run_id__in=(current.pk, cancelled.pk))
        calls.update(started_at=timezone.now() - timedelta(seconds=121))
        assert calls_of_lost_workers(alias=alias) == 1
    statuses = [calls_of(tenant, run)[0].status for run in (current, cancelled, fresh)]
    assert statuses == [CallStatus.OPEN, CallStatus.UNKNOWN, CallStatus.OPEN]


def test_a_prompt_that_does_not_fit_is_refused_before_a_call_is_recorded(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, model_with: Callable[..., None]
) -> None:
    model_with(context_window=3)
    assert execute(tenant, run, FIRST) == "failed"
    assert (calls_of(tenant, run), fake_llm.prompts) == ([], [])
    step = steps_of(tenant, run)[FIRST]
    assert (step.status, step.token_usage) == (StepStatus.FAILED, None)
    assert step.error_message is not None and step.llm_model is not None and step.llm_model in step.error_message


def before_the_call(monkeypatch: pytest.MonkeyPatch, event: Callable[[], object]) -> None:
    """Call `event` after the step is claimed and its prompt is rendered, but before its call is recorded."""

    def prepare_and_be_overtaken(*, alias: str, claim: Claim) -> Work:
        work = prepare(alias=alias, claim=claim)
        event()
        return work

    monkeypatch.setattr(executing, "prepare", prepare_and_be_overtaken)


def test_a_pause_between_claim_and_call_returns_the_step_unspent(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_call(monkeypatch, lambda: run_pause(tenant_id=tenant.pk, run_id=run.pk))
    assert execute(tenant, run, FIRST) == "returned"
    assert (calls_of(tenant, run), fake_llm.prompts) == ([], [])
    step = steps_of(tenant, run)[FIRST]
    assert (step.status, step.retry_count, step.lost_count) == (StepStatus.PENDING, 0, 0)
    assert (step.lease_owner, step.lease_expires_at, step.error_message) == (None, None, None)
    assert reload(tenant, run).status == RunStatus.PAUSED
    with tenant_context(tenant) as alias:
        [returned] = AuditLog.objects.using(alias).filter(action="step.return")
    assert returned.details is not None and returned.details["reason"] == "run paused"


@pytest.mark.parametrize("ending", ["cancelled", "taken over"])
def test_no_call_begins_for_a_claim_that_ended(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    def take_over() -> None:
        lapse(tenant, run)
        assert claim(tenant, run) is not None

    cancel = lambda: run_cancel(tenant_id=tenant.pk, run_id=run.pk)  # noqa: E731
    before_the_call(monkeypatch, cancel if ending == "cancelled" else take_over)
    assert execute(tenant, run, FIRST) == "lost"
    assert (calls_of(tenant, run), fake_llm.prompts) == ([], [])
    with tenant_context(tenant) as alias:
        status = Step.objects.using(alias).get(run_id=run.pk, step=FIRST).status
    assert status == (StepStatus.FAILED if ending == "cancelled" else StepStatus.RUNNING)
