"""`cost show`, which reads the costs of calls from the control database alone."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from runs.presentation.costs import BYTE_ORDER_MARK, cost_csv, cost_text
from runs.types import CostRow
from tenants.models import Tenant
from tests.runs.costs.made import add_call, add_step, make_old, summarize

USED = {"input": 1000, "output": 10}


@pytest.fixture
def shown(tenant: Tenant) -> Tenant:
    """Return a tenant with calls in two months: of known cost, of unknown cost, and without prices."""
    make_old(tenant)
    priced, unpriced = add_step(tenant), add_step(tenant, "final", prices=(None, None))
    add_call(tenant, priced, "2026-10-31T23:00:00+00:00", USED)
    add_call(tenant, priced, "2026-11-01T01:00:00+00:00", {**USED, "reasoning": 5})
    add_call(tenant, priced, "2026-11-02T01:00:00+00:00", None)
    add_call(tenant, unpriced, "2026-11-02T01:00:00+00:00", USED, model="=cmd()")
    assert summarize(tenant)
    return tenant


def show(*arguments: str) -> str:
    out = StringIO()
    call_command("cost_show", *arguments, stdout=out)
    return out.getvalue()


def rows(tenant: Tenant, *arguments: str) -> list[CostRow]:
    found: list[CostRow] = json.loads(show("--tenant-id", tenant.pk, "--json", *arguments))["rows"]
    return found


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("day", ["2026-10-31", "2026-11-01", "2026-11-02"]),
        ("month", ["2026-10", "2026-11"]),
        ("step", ["draft", "final"]),
        ("model", ["openai/=cmd()", "openai/m"]),
    ],
)
def test_costs_are_summed_by_each_key(by: str, names: list[str], shown: Tenant) -> None:
    found = rows(shown, "--by", by)
    assert sorted(row["name"] for row in found) == names
    assert sum(row["calls"] for row in found) == 4
    assert sum(row["cost_usd"] or 0 for row in found) == pytest.approx(1.04)


def test_a_period_has_both_its_ends(shown: Tenant) -> None:
    [row] = rows(shown, "--from", "2026-11-01", "--to", "2026-11-01")
    assert row == {
        "name": "2026-11",
        "calls": 1,
        "unknown_calls": 0,
        "unpriced_calls": 0,
        "token_usage": {"input": 1000, "output": 10, "reasoning": 5},
        "cost_usd": 0.52,
        "possible_usd": None,
    }
    assert rows(shown, "--from", "2026-12-01") == []


def test_all_tenants_are_summed_and_named(shown: Tenant, tenant_pair: tuple[Tenant, Tenant]) -> None:
    other = tenant_pair[0]
    make_old(other)
    add_call(other, add_step(other), "2026-11-05T01:00:00+00:00", USED)
    assert summarize(other)
    document = json.loads(show("--all", "--by", "tenant", "--json"))
    found = {row["name"]: row["calls"] for row in document["rows"]}
    assert (found[shown.pk], found[other.pk]) == (4, 1)
    assert document["total"]["calls"] == sum(found.values())


def test_the_table_never_shows_what_is_unknown_as_nothing(shown: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    show("--tenant-id", shown.pk, "--by", "step")
    head, draft, final, total = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    cells = [[cell.strip() for cell in line if cell.strip()] for line in (head, draft, final, total)]
    assert cells == [
        [
            "step",
            "calls",
            "input tokens",
            "output tokens",
            "cost (USD)",
            "calls with unknown cost",
            "calls without a price",
        ],
        ["draft", "3", "2,000", "20", "at least 1.04", "1 (at most USD 2.50)", "0"],
        ["final", "1", "1,000", "10", "unknown", "0", "1"],
        ["total", "4", "3,000", "30", "at least 1.04", "1", "1"],
    ]


def test_the_csv_opens_in_excel_and_calculates_nothing(shown: Tenant) -> None:
    text = show("--tenant-id", shown.pk, "--by", "model", "--csv")
    assert text.startswith(BYTE_ORDER_MARK) and text.count("\r\n") == 3
    head, *lines = csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK)))
    assert head == [
        *("model", "calls", "unknown_calls", "unpriced_calls"),
        *("input_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "possible_usd"),
    ]
    assert sorted(lines) == [
        ["openai/=cmd()", "1", "0", "1", "1000", "10", "0", "", ""],
        ["openai/m", "3", "1", "0", "2000", "20", "5", "1.04", "2.5"],
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_no_cell_is_a_formula(name: str) -> None:
    row = CostRow(
        name=name,
        calls=1,
        unknown_calls=0,
        unpriced_calls=0,
        token_usage={},
        cost_usd=Decimal("0E-9"),
        possible_usd=None,
    )
    [_head, cells] = csv.reader(io.StringIO(cost_csv("step", [row]).removeprefix(BYTE_ORDER_MARK), newline=""))
    assert cells[0] == f"'{name}" and cells[-2] == "0"
    assert cost_text(row) == "0.00"


def test_wrong_usage_is_refused(shown: Tenant) -> None:
    for arguments, sentence in (
        (("--all", "--csv", "--json"), "--csv and --json cannot be used together."),
        (("--all", "--from", "2026-11-02", "--to", "2026-11-01"), "--from is after --to."),
        (("--all", "--from", "yesterday"), "'yesterday' is not a date such as 2026-11-24"),
        (("--tenant-id", "nobody"), "There is no tenant 'nobody'"),
    ):
        with pytest.raises(CommandError, match=sentence):
            show(*arguments)
