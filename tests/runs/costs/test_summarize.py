"""The control database's daily costs match the calls, even if calls change or the process dies during the summary."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db.models.functions import Now

from runs.costs import summarize as summarizing
from runs.costs.days import Costs, replace_days
from runs.models import Call, CallStatus
from runs.steps.sweep import runs_sweep
from tenants.lifecycle.work_mark import mark_working
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.costs.made import add_call, add_step, costs, is_exact, make_old, summarize

DAY = "2026-11-24"
USED = {"input": 100, "output": 10}


def change(tenant: Tenant, call_id: int, **columns: object) -> None:
    with tenant_context(tenant) as alias:
        Call.objects.using(alias).filter(pk=call_id).update(**columns)


def test_calls_are_added_up_by_day_step_and_model(tenant: Tenant) -> None:
    make_old(tenant)
    step, other = add_step(tenant), add_step(tenant, "final")
    for at in (f"{DAY}T00:00:00+00:00", f"{DAY}T23:59:59+00:00", "2026-11-25T08:59:59+09:00"):
        add_call(tenant, step, at, {**USED, "cached_read": 60})
    add_call(tenant, step, "2026-11-25T00:00:00+00:00", USED)
    add_call(tenant, step, f"{DAY}T12:00:00+00:00", USED, model="other")
    add_call(tenant, other, f"{DAY}T12:00:00+00:00", None)
    add_call(tenant, other, f"{DAY}T12:00:00+00:00", None, status=CallStatus.OPEN)
    assert summarize(tenant)
    one = Costs(1, 0, 0, USED, Decimal("0.07"), None)
    usage = {"input": 300, "output": 30, "cached_read": 180}
    assert costs(tenant) == {
        (DAY, "draft", "m"): Costs(3, 0, 0, usage, Decimal("0.21"), None),
        ("2026-11-25", "draft", "m"): one,
        (DAY, "draft", "other"): one,
        (DAY, "final", "m"): Costs(1, 1, 0, {}, None, Decimal("2.5")),
    }
    assert is_exact(tenant)


def test_what_has_no_price_is_counted_and_costs_nothing_known(tenant: Tenant) -> None:
    make_old(tenant)
    step = add_step(tenant, prices=("0.5", None))
    add_call(tenant, step, f"{DAY}T12:00:00+00:00", USED)
    add_call(tenant, step, f"{DAY}T12:00:00+00:00", None)
    add_call(tenant, step, f"{DAY}T12:00:00+00:00", {})
    assert summarize(tenant)
    assert costs(tenant) == {(DAY, "draft", "m"): Costs(3, 1, 2, USED, Decimal(0), None)}


def test_a_late_settlement_replaces_the_possible_cost(tenant: Tenant) -> None:
    make_old(tenant)
    call_id = add_call(tenant, add_step(tenant), f"{DAY}T12:00:00+00:00", None)
    assert summarize(tenant) and summarize(tenant)
    assert costs(tenant) == {(DAY, "draft", "m"): Costs(1, 1, 0, {}, None, Decimal("2.5"))}
    change(tenant, call_id, status=CallStatus.SETTLED, token_usage=USED, ended_at=Now())
    assert summarize(tenant)
    assert costs(tenant) == {(DAY, "draft", "m"): Costs(1, 0, 0, USED, Decimal("0.07"), None)}


def test_a_call_that_changes_meanwhile_is_added_again(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(tenant)
    call_id = add_call(tenant, add_step(tenant), f"{DAY}T12:00:00+00:00", None)

    def replace_late(*arguments: object) -> None:
        replace_days(*arguments)  # type: ignore[arg-type]
        change(tenant, call_id, status=CallStatus.SETTLED, token_usage=USED)

    with monkeypatch.context() as patched:
        patched.setattr(summarizing, "replace_days", replace_late)
        assert not summarize(tenant)
    assert summarize(tenant)
    assert costs(tenant)[DAY, "draft", "m"].unknown_calls == 0


def test_a_process_that_dies_before_the_note_repeats_the_same(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(tenant)
    add_call(tenant, add_step(tenant), f"{DAY}T12:00:00+00:00", USED)
    with monkeypatch.context() as patched:
        patched.setattr(summarizing, "NOTE_SUMMARIZED", "SELECT 1 / 0 WHERE %s IS NULL OR %s IS NULL OR true")
        with pytest.raises(Exception, match="division by zero"):
            summarize(tenant)
    before = costs(tenant)
    assert before[DAY, "draft", "m"].calls == 1
    assert summarize(tenant)
    assert costs(tenant) == before


def test_the_sweep_brings_them_up_to_date_and_keeps_the_mark_until_then(tenant: Tenant) -> None:
    make_old(tenant)
    add_call(tenant, add_step(tenant), f"{DAY}T12:00:00+00:00", USED)
    mark_working(tenant.pk)
    runs_sweep()
    assert costs(tenant)[DAY, "draft", "m"].cost_usd == Decimal("0.07")


def test_what_was_replaced_or_copied_counts_nowhere(tenant: Tenant) -> None:
    """Calls older than the tenant came with a copy. A changed connection version may mean a replaced database."""
    add_call(tenant, add_step(tenant), "2026-01-02T12:00:00+00:00", USED)
    assert summarize(tenant) and costs(tenant) == {} and is_exact(tenant)
    make_old(tenant)
    assert not is_exact(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(connection_version=77)
    with tenant_context(tenant) as alias:
        Tenant.objects.filter(pk=tenant.pk).update(connection_version=78)
        Call.objects.using(alias).update(status=CallStatus.SETTLED)
        assert not summarizing.costs_summarize(alias=alias, tenant_id=tenant.pk)
    assert costs(tenant) == {}
