"""`cost reconcile`, and what beat compares each night."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from runs.app_hooks import RunContents
from runs.costs.reconcile import cost_reconcile, costs_compare
from runs.summaries.models import DailyCost
from runs.tasks import compare_costs
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.costs.made import add_call, add_step, costs, is_exact, make_old, summarize

USED = {"input": 100, "output": 10}
DAYS = ("2026-11-23", "2026-11-24", "2026-11-25")


@pytest.fixture
def kept(tenant: Tenant) -> Tenant:
    """Return a tenant with a call on each of three days, and with the daily costs of these calls."""
    make_old(tenant)
    step = add_step(tenant)
    for day in DAYS:
        add_call(tenant, step, f"{day}T12:00:00+00:00", USED)
    assert summarize(tenant)
    return tenant


def tamper(tenant: Tenant) -> None:
    """In the daily costs, change one day, remove another, and add one on which no call began."""
    rows = DailyCost.objects.filter(tenant_id=tenant.pk)
    rows.filter(day=DAYS[0]).update(cost_usd=Decimal(0))
    rows.filter(day=DAYS[1]).delete()
    DailyCost.objects.create(
        tenant_id=tenant.pk, day="2026-11-20", step="draft", provider="openai", model="m",
        calls=1, unknown_calls=0, unpriced_calls=0, token_usage={}, cost_usd=1,
    )  # fmt: skip


def entries(tenant: Tenant, action: str) -> list[object]:
    found = ControlAuditLog.objects.filter(action=action, resource_id=tenant.pk).order_by("id")
    return list(found.values_list("details", flat=True))


def test_what_differs_is_named_and_rebuilt(kept: Tenant) -> None:
    before = costs(kept)
    tamper(kept)
    differing = ["2026-11-20", *DAYS[:2]]
    for _repetition in range(2):
        [found] = cost_reconcile(tenant_id=kept.pk, check=True)
        assert (found.days, found.differing, found.waiting) == (3, differing, 0)
    [found] = cost_reconcile(tenant_id=kept.pk)
    assert found.differing == differing
    assert costs(kept) == before and is_exact(kept)
    assert entries(kept, "cost.reconcile") == [{"days": 3, "differing": differing}]


def test_days_that_the_sweep_has_not_seen_yet_wait(kept: Tenant) -> None:
    add_call(kept, add_step(kept), f"{DAYS[2]}T13:00:00+00:00", USED)
    [found] = cost_reconcile(tenant_id=kept.pk, check=True)
    assert (found.differing, found.waiting) == ([], 1)


def test_the_nightly_comparison_reports_and_changes_nothing(kept: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    costs_compare()
    assert entries(kept, "cost.compare") == []
    tamper(kept)
    before = costs(kept)
    assert compare_costs.name == "runs.compare_costs"
    compare_costs()
    assert entries(kept, "cost.compare") == [{"days": 3, "differing": ["2026-11-20", *DAYS[:2]]}]
    assert "daily costs differ" in [record.message for record in caplog.records]
    assert costs(kept) == before


def test_a_restore_rebuilds_and_an_erasure_removes_them(kept: Tenant) -> None:
    tamper(kept)
    with tenant_context(kept) as alias:
        RunContents().summarize(kept.pk, alias)
    assert is_exact(kept)
    assert "daily_costs" in RunContents().control_tables()
    assert RunContents().count_summaries(kept.pk) == 4
    assert RunContents().erase_summaries(kept.pk) == 4
    assert costs(kept) == {}


def test_the_command_exits_1_if_a_check_finds_differences(kept: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    tamper(kept)
    with pytest.raises(CommandError) as caught:
        call_command("cost_reconcile", "--tenant-id", kept.pk, "--check")
    assert str(caught.value) == (
        "The control database's costs for 3 days differ from those of the calls. Run the command without --check to"
        " rebuild the costs."
    )
    assert f"{kept.pk}  2026-11-20, 2026-11-23, 2026-11-24" in capsys.readouterr().out
    out = StringIO()
    call_command("cost_reconcile", "--tenant-id", kept.pk, "--json", stdout=out)
    [document] = json.loads(out.getvalue())
    assert document["differing"] == ["2026-11-20", *DAYS[:2]]
    call_command("cost_reconcile", "--tenant-id", kept.pk, "--check")
