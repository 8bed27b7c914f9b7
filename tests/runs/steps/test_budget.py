"""Budgets: the most that a call can cost is reserved before it begins, and its actual cost counts once it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module

import pytest
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditLog
from llm.models import PriceSource
from llm.prices.history import price_add, prices_in_force
from llm.types import ModelPrices, TokenUsage
from runs.costs.days import read_days
from runs.errors import BudgetReached
from runs.models import Call, CallStatus, PauseCause, Run, RunStatus, Spending, StepStatus
from runs.selectors import run_document
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.steps.call import CallEnd, call_begin, call_mark_unknown, call_settle
from runs.steps.sweep import calls_of_lost_workers
from runs.types import Claim
from tenants.lifecycle.budget import tenant_budget_set
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, execute, finish, reload, standard_model
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.runs.services.states import FIRST, change_step, claim, steps_of

MakeRun = Callable[..., Run]
# USD per 1,000 tokens.
INPUT_PRICE, OUTPUT_PRICE = Decimal("0.5"), Decimal("2")
INPUT_COST = INPUT_TOKENS * INPUT_PRICE / 1000
COST = INPUT_COST + OUTPUT_TOKENS * OUTPUT_PRICE / 1000
# The most that a call of 50 tokens in and 100 out costs.
BOUND = Decimal("0.225")


@pytest.fixture(autouse=True)
def model() -> Iterator[Callable[..., None]]:
    """Give the model of `make_run` prices for input and output only, and an output limit of 1,000 tokens.

    Yield a function that changes its prices.
    """
    row = standard_model()
    prices, limit = prices_in_force(row.pk), row.max_output_tokens
    units = {"input": INPUT_PRICE, "output": OUTPUT_PRICE}

    def change(**changed: Decimal | int | None) -> None:
        present = {unit: Decimal(price) for unit, price in {**units, **changed}.items() if price is not None}
        price_add(model=row, prices=ModelPrices(present), source=PriceSource.HAND)

    type(row).objects.filter(pk=row.pk).update(max_output_tokens=1000)
    change()
    yield change
    type(row).objects.filter(pk=row.pk).update(max_output_tokens=limit)
    price_add(model=row, prices=prices, source=PriceSource.HAND)


def budget(tenant: Tenant, month: object = None, run: object = None) -> None:
    amounts = {"monthly_budget_usd": month, "run_budget_usd": run}
    budgets = {name: None if amount is None else Decimal(str(amount)) for name, amount in amounts.items()}
    tenant_budget_set(tenant_id=tenant.pk, budgets=budgets)


def begin(tenant: Tenant, run: Run) -> tuple[Claim, int]:
    """Claim the run's first step and begin a call that costs `BOUND` at most; return the claim and the call's id."""
    held = claim(tenant, run)
    assert held is not None
    with tenant_context(tenant) as alias:
        call_id = call_begin(alias=alias, claim=held, max_input_tokens=50, max_output_tokens=100)
    assert call_id is not None
    return held, call_id


def spending(tenant: Tenant) -> tuple[object, ...]:
    """Return the US dollars spent, reserved and possibly spent this month, and the number of calls without a price."""
    with tenant_context(tenant) as alias:
        row = Spending.objects.using(alias).get(month=datetime.now(UTC).date().replace(day=1))
    return row.spent_usd, row.reserved_usd, row.possible_usd, row.unpriced_calls


def entries(tenant: Tenant, action: str) -> list[object]:
    with tenant_context(tenant) as alias:
        found = AuditLog.objects.using(alias).filter(action=action).order_by("id")
        return list(found.values_list("details", flat=True))


def reason_of(tenant: Tenant, run: Run) -> str:
    """Return why the run is waiting for a budget, as `run show` states it."""
    waiting = run_document(tenant_id=tenant.pk, run_id=run.pk)["waiting"]
    assert waiting is not None and waiting["reason"] == "budget"
    return str(waiting["error"])


def test_a_call_reserves_its_bound_and_then_costs_what_it_used(tenant: Tenant, run: Run) -> None:
    held, call_id = begin(tenant, run)
    assert spending(tenant) == (0, BOUND, 0, 0)
    with tenant_context(tenant) as alias:
        for _repetition in range(2):
            call_settle(alias=alias, claim=held, call_id=call_id, end=CallEnd({"input": 40, "output": 10}))
        call_mark_unknown(alias=alias, claim=held, call_id=call_id, error_code="late")
        assert Call.objects.using(alias).get().cost_usd == Decimal("0.04")
    assert spending(tenant) == (Decimal("0.04"), 0, 0, 0)


def test_a_call_that_was_refused_costs_nothing(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(status=503))
    assert execute(tenant, run, FIRST) == "retried"
    assert spending(tenant) == (0, 0, 0, 0)


def test_a_call_with_unknown_outcome_stays_counted_until_it_is_settled(tenant: Tenant, run: Run) -> None:
    held, call_id = begin(tenant, run)
    change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert claim(tenant, run) is not None
    assert spending(tenant) == (0, 0, BOUND, 0)
    budget(tenant, month="0.3")
    change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(BudgetReached, match=r"up to USD 0\.225 is reserved or possibly spent"):
        begin(tenant, run)
    with tenant_context(tenant) as alias:
        call_settle(alias=alias, claim=held, call_id=call_id, end=CallEnd({"input": 7, "output": 3}))
    assert spending(tenant) == (Decimal("0.0095"), 0, 0, 0)


def test_the_sweep_makes_a_lost_reservation_a_possible_cost(tenant: Tenant, run: Run) -> None:
    _held, call_id = begin(tenant, run)
    change_step(tenant, run, FIRST, status=StepStatus.PENDING)
    with tenant_context(tenant) as alias:
        Call.objects.using(alias).filter(pk=call_id).update(started_at=timezone.now() - timedelta(hours=3))
        assert calls_of_lost_workers(alias=alias) == 1
        # The call may have begun in the month before.
        months = Spending.objects.using(alias).values_list("reserved_usd", "possible_usd")
        assert [sum(column) for column in zip(*months, strict=True)] == [0, BOUND]


def test_a_run_without_a_budget_is_counted_and_completes(tenant: Tenant, run: Run) -> None:
    assert finish(tenant, run)[-1] == "completed"
    assert spending(tenant) == (COST * len(STEPS), 0, 0, 0)


def test_the_monthly_budget_pauses_the_run_with_the_reason(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    assert execute(tenant, run, FIRST) == "completed"
    budget(tenant, month="3.5")
    assert execute(tenant, run, STEPS[1]) == "completed"
    asked = len(fake_llm.requests)
    assert execute(tenant, run, STEPS[2]) == "returned"
    assert len(fake_llm.requests) == asked
    stored, step = reload(tenant, run), steps_of(tenant, run)[STEPS[2]]
    assert (stored.status, stored.pause_cause, stored.paused_by) == (RunStatus.PAUSED, PauseCause.BUDGET, "pipeline")
    assert stored.paused_at is not None and stored.current_step == STEPS[2]
    assert (step.status, step.retry_count, step.lease_owner) == (StepStatus.PENDING, 0, None)
    reason = reason_of(tenant, run)
    month = f"{datetime.now(UTC):%Y-%m}"
    assert reason.startswith(
        f"Tenant {tenant.pk} could exceed its budget of USD 3.50 for {month}: USD {COST * 2:.2f} is spent, up to"
        " USD 0.00 is reserved or possibly spent, and the next call may cost USD "
    )
    assert reason.endswith(
        "Raise the budget with “Set budget” on the tenant's page or `seo-gen tenant budget`, or wait until next month;"
        " then resume the run."
    )
    assert entries(tenant, "run.pause") == [{"cause": "budget", "code": "budget_reached", "step": STEPS[2]}]
    assert spending(tenant) == (COST * 2, 0, 0, 0)


def test_a_paused_run_is_resumed_once_the_budget_was_raised(tenant: Tenant, run: Run) -> None:
    budget(tenant, month="0.001")
    assert execute(tenant, run, FIRST) == "returned"
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert execute(tenant, run, FIRST) == "returned"
    budget(tenant, month="100")
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert finish(tenant, run) == ["completed"] * 4
    assert steps_of(tenant, run)[FIRST].error_message is None


def test_another_month_has_its_budget_again(tenant: Tenant, run: Run) -> None:
    begin(tenant, run)
    budget(tenant, month="3")
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).update(spent_usd=Decimal(3))
    change_step(tenant, run, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert execute(tenant, run, FIRST) == "returned"
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).update(month=datetime(2026, 1, 1, tzinfo=UTC).date())
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert execute(tenant, run, FIRST) == "completed"


def test_a_reservation_larger_than_the_whole_budget_has_a_sentence_of_its_own(
    tenant: Tenant, make_run: MakeRun
) -> None:
    budget(tenant, month="1.5")
    run = make_run(tenant)
    assert execute(tenant, run, FIRST) == "returned"
    assert reason_of(tenant, run).startswith(f"Tenant {tenant.pk}: the next call may cost USD 2.")
    assert ", more than the whole budget of USD 1.50 for " in reason_of(tenant, run)
    budget(tenant, run="1.5")
    run = make_run(tenant)
    assert execute(tenant, run, FIRST) == "returned"
    assert reason_of(tenant, run).startswith(f"Run {run.pk}: its next call may cost USD 2.")
    codes = [details["code"] for details in entries(tenant, "run.pause")]  # type: ignore[index]
    assert codes == ["budget_too_small"] * 2


def test_a_run_has_a_budget_of_its_own_or_the_tenants(tenant: Tenant, make_run: MakeRun) -> None:
    budget(tenant, run="3.5")
    of_tenant, own = make_run(tenant), make_run(tenant, budget_usd=100)
    for _step in STEPS[:2]:
        assert execute(tenant, of_tenant, reload(tenant, of_tenant).current_step or "") == "completed"
    assert execute(tenant, of_tenant, STEPS[2]) == "returned"
    assert reason_of(tenant, of_tenant).startswith(
        f"Run {of_tenant.pk} could exceed its budget of USD 3.50: its calls so far have cost up to USD {COST * 2:.2f}"
        " together, and the next"
    )
    assert finish(tenant, own)[-1] == "completed"
    with pytest.raises(Exception, match=r"above 0 and up to 1000000, with at most six decimal places, not 0"):
        run_resume(tenant_id=tenant.pk, run_id=of_tenant.pk, budget_usd=Decimal(0))
    run_resume(tenant_id=tenant.pk, run_id=of_tenant.pk, budget_usd=Decimal("9.5"))
    assert finish(tenant, of_tenant)[-1] == "completed"
    assert (reload(tenant, of_tenant).config or {})["budget_usd"] == 9.5
    [resumed] = entries(tenant, "run.resume")
    assert resumed["budget_usd"] == "9.5"  # type: ignore[index]


def test_a_model_without_a_price_does_not_run_against_a_budget(
    tenant: Tenant, run: Run, model: Callable[..., None], settings: Settings
) -> None:
    budget(tenant, month="100")
    model(output=None)
    assert execute(tenant, run, FIRST) == "returned"
    assert "is not known, so step keyword_analysis cannot be kept within the budget." in reason_of(tenant, run)
    assert "Models and prices" in reason_of(tenant, run)
    # No call was made, so the step takes the price that is known by now.
    model()
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    assert execute(tenant, run, FIRST) == "completed"
    assert spending(tenant) == (COST, 0, 0, 0)
    model(output=None)
    settings.BUDGET_ALLOWS_UNPRICED = True
    assert execute(tenant, run, STEPS[1]) == "completed"
    # Its input has a price.
    assert spending(tenant) == (COST + INPUT_COST, 0, 0, 1)


def test_a_unit_without_a_price_counts_with_the_rest_of_the_bound(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(usage=TokenUsage(INPUT_TOKENS, OUTPUT_TOKENS, cached_read=600)))
    assert execute(tenant, run, FIRST) == "completed"
    with tenant_context(tenant) as alias:
        call = Call.objects.using(alias).get()
        [costs] = read_days(alias, since=tenant.created_at).values()
    known = COST - 600 * INPUT_PRICE / 1000
    assert call.bound_usd is not None and (call.is_unpriced, call.cost_usd) == (True, known)
    assert spending(tenant) == (known, 0, call.bound_usd - known, 1)
    assert (costs.cost_usd, costs.possible_usd, costs.unpriced_calls) == (known, call.bound_usd - known, 1)


def test_a_call_that_costs_nothing_may_always_begin(tenant: Tenant, run: Run, model: Callable[..., None]) -> None:
    model(input=0, output=0)
    budget(tenant, month="1")
    with tenant_context(tenant) as alias:
        Spending.objects.using(alias).create(month=datetime.now(UTC).date().replace(day=1), spent_usd=Decimal(5))
    assert execute(tenant, run, FIRST) == "completed"


def test_a_run_that_a_person_has_paused_stays_so(tenant: Tenant, run: Run) -> None:
    held = claim(tenant, run)
    budget(tenant, month="0.001")
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    with tenant_context(tenant) as alias:
        assert held is not None
        assert call_begin(alias=alias, claim=held, max_input_tokens=50, max_output_tokens=100) is None
    assert reload(tenant, run).pause_cause == PauseCause.PERSON


def test_little_that_is_left_is_warned_of_once_a_month(
    tenant: Tenant, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    budget(tenant, month="6")
    assert finish(tenant, run) == ["completed"] * 4
    [warned] = entries(tenant, "tenant.budget.warn")
    assert isinstance(warned, dict)
    assert (warned["month"], warned["budget_usd"], warned["spent_usd"]) == (
        f"{datetime.now(UTC):%Y-%m}",
        "6.00",
        "2.70",
    )
    assert [record.message for record in caplog.records].count("budget nearly reached") == 1


def test_enough_that_is_left_is_not_warned_of(tenant: Tenant, run: Run) -> None:
    budget(tenant, month="1000")
    assert finish(tenant, run) == ["completed"] * 4
    assert entries(tenant, "tenant.budget.warn") == []


def test_statuses_of_calls_are_all_counted(tenant: Tenant, run: Run) -> None:
    """The month's row contains the sum of what the calls cost."""
    assert finish(tenant, run)[-1] == "completed"
    with tenant_context(tenant) as alias:
        calls = list(Call.objects.using(alias))
        assert {call.status for call in calls} == {CallStatus.SETTLED}
        assert all(call.bound_usd is not None and call.bound_usd >= (call.cost_usd or 0) for call in calls)
        assert spending(tenant)[0] == sum(call.cost_usd or 0 for call in calls)


def test_the_migration_gives_earlier_calls_what_the_triggers_give_to_new_ones(
    tenant: Tenant, make_run: MakeRun, model: Callable[..., None], settings: Settings
) -> None:
    """Calls of each kind lose their amounts, which earlier releases did not store; the migration restores them."""
    past = import_module("runs.migrations.0007_costs_so_far")
    assert finish(tenant, make_run(tenant))[-1] == "completed"
    begin(tenant, make_run(tenant))
    lost = make_run(tenant)
    begin(tenant, lost)
    change_step(tenant, lost, FIRST, lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert claim(tenant, lost) is not None
    model(output=None)
    assert execute(tenant, make_run(tenant), FIRST) == "completed"
    before, by_call = spending(tenant), amounts(tenant)
    with tenant_context(tenant) as alias:
        Call.objects.using(alias).update(bound_usd=None, cost_usd=None)
        Spending.objects.using(alias).update(month=datetime(2026, 1, 1, tzinfo=UTC).date())
        with connections[alias].cursor() as cursor:
            cursor.execute(past.PRICE_PAST_CALLS)
            cursor.execute(past.COUNT_PAST_CALLS)
    assert (spending(tenant), amounts(tenant)) == (before, by_call)
    assert before == (COST * len(STEPS) + INPUT_COST, BOUND, BOUND, 1)


def amounts(tenant: Tenant) -> list[tuple[Decimal | None, Decimal | None]]:
    with tenant_context(tenant) as alias:
        return list(Call.objects.using(alias).order_by("id").values_list("bound_usd", "cost_usd"))
