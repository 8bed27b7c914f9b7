"""The views `step_costs` and `run_costs`: each unit has its own price, and rows of earlier releases keep their cost."""

import importlib
import json
import random
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from llm.types import ModelPrices, TokenUsage
from runs.models import Call, CallStatus, Run, RunCost, Step, StepCost
from runs.presentation.cost import cost_text
from runs.presentation.tables import usage_text
from runs.selectors import cost_document
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.superuser import superuser_url

PRICES = {
    "input": "0.004",
    "output": "0.02",
    "cached_read": "0.0002",
    "cache_write_5m": "0.005",
    "cache_write_1h": "0.008",
}
LONG_PRICES = {
    **PRICES,
    "long_input": "0.008",
    "long_output": "0.03",
    "long_cached_read": "0.0004",
    "long_context_over": 200_000,
}


def step_of(alias: str, usage: dict[str, int] | None, prices: dict[str, Any] | None, **columns: Any) -> Step:
    run = Run.objects.using(alias).create(status="completed")
    return Step.objects.using(alias).create(
        run=run, step="draft", status="completed", token_usage=usage, prices=prices, **columns
    )


def costs(alias: str, step: Step) -> tuple[Decimal | None, Any]:
    """Return the step's cost and its unpriced tokens; fail if those of its run differ."""
    cost = StepCost.objects.using(alias).get(pk=step.pk)
    of_run = RunCost.objects.using(alias).get(run=step.run_id)
    assert (of_run.total_llm_cost, of_run.unpriced_tokens) == (cost.llm_cost, cost.unpriced_tokens)
    assert of_run.unpriced_steps == (cost.unpriced_tokens is not None)
    return cost.llm_cost, cost.unpriced_tokens


@pytest.mark.parametrize(
    ("usage", "prices", "cost", "unpriced"),
    [
        # 50 * 0.004 + 90,000 * 0.0002 + 600 * 0.005 + 400 * 0.008 + 100 * 0.02, per thousand
        (
            TokenUsage(91_050, 100, cached_read=90_000, cache_write_5m=600, cache_write_1h=400).as_document(),
            PRICES,
            "0.0264",
            None,
        ),
        # The price list's last digit is kept.
        ({"input": 1, "output": 0}, {"input": "0.00000000123", "output": "1"}, "0.00000000000123", None),
        # Reasoning costs what output costs, unless it has a price.
        ({"input": 0, "output": 100, "reasoning": 40}, PRICES, "0.002", None),
        ({"input": 0, "output": 100, "reasoning": 40}, {**PRICES, "reasoning": "0.1"}, "0.0052", None),
        # What has no price is named, and the rest is counted.
        (
            {"input": 5000, "output": 100, "cached_read": 4864, "reasoning": 40},
            {"input": "0.004", "output": "0.02"},
            "0.002544",
            {"cached_read": 4864},
        ),
        ({"input": 10, "output": 5, "reasoning": 2}, {}, None, {"input": 10, "output": 3, "reasoning": 2}),
        ({"input": 10, "output": 5}, {"input": "1"}, "0.01", {"output": 5}),
        ({"input": 10, "output": 0}, {"input": "1"}, "0.01", None),
        # Nothing is known to be used yet.
        (None, PRICES, None, None),
        # Each call is in the long context or not: 100,000 short, then 300,000 long of which 1,000 were read.
        (
            (
                TokenUsage(100_000, 10).as_document(200_000),
                TokenUsage(300_000, 20, cached_read=1_000, reasoning=5).as_document(200_000),
            ),
            LONG_PRICES,
            "2.7932",
            None,
        ),
        (
            TokenUsage(200_001, 20, cache_write_5m=7).as_document(200_000),
            LONG_PRICES,
            "1.600552",
            {"long_cache_write_5m": 7},
        ),
        (TokenUsage(200_000, 0).as_document(200_000), LONG_PRICES, "0.8", None),
    ],
)
def test_each_unit_has_its_price(
    tenant: Tenant, usage: Any, prices: dict[str, Any], cost: str | None, unpriced: dict[str, int] | None
) -> None:
    calls = usage if isinstance(usage, tuple) else (usage,)
    total = usage if usage is None else {unit: sum(one.get(unit, 0) for one in calls) for one in calls for unit in one}
    with tenant_context(tenant) as alias:
        assert costs(alias, step_of(alias, total, prices)) == (cost and Decimal(cost), unpriced)


def test_a_run_adds_up_its_units_and_what_is_unpriced(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        step = step_of(alias, {"input": 50, "output": 9, "cached_read": 20, "reasoning": 3}, {"input": "1"})
        Step.objects.using(alias).create(
            run=step.run,
            step="final",
            status="completed",
            token_usage={"input": 70, "output": 2, "cached_read": 30},
            prices={"input": "2", "output": "3"},
        )
        cost = RunCost.objects.using(alias).get(run=step.run_id)
    assert cost.total_llm_cost == Decimal("0.03") + Decimal("0.08") + Decimal("0.006")
    assert (cost.total_input_tokens, cost.total_output_tokens) == (120, 11)
    assert cost.unpriced_tokens == {"cached_read": 50, "output": 6, "reasoning": 3}
    assert cost.unpriced_steps == 2
    assert cost.tokens_by_unit == {"cached_read": 50, "reasoning": 3}


def test_people_read_the_units_and_what_has_no_price(tenant: Tenant) -> None:
    usage = TokenUsage(300_000, 9, cached_read=20, reasoning=3).as_document(200_000)
    with tenant_context(tenant) as alias:
        step = step_of(alias, usage, {"input": "1", "long_input": "0.0000000001", "long_context_over": 200_000})
        document = cost_document(RunCost.objects.using(alias).get(run=step.run_id), [step], {})
    assert document["exact_llm_cost"] == "0.000000029998"
    assert cost_text(document) == (
        "at least USD 0.000000 (300000 tokens in, 9 out, including cached input 20, reasoning 3,"
        " input (long context) 300000, output (long context) 9; without a known price: output (long context) 6,"
        " cached input (long context) 20, reasoning (long context) 3)"
    )
    assert usage_text(step.token_usage) == "300000 (20 cached)/9"
    assert (usage_text({"input": 1, "output": 2}), usage_text(None)) == ("1/2", "")


def test_sums_of_many_calls_break_no_page(tenant: Tenant) -> None:
    """The step has more tokens than fit into a 32-bit integer, and costs more than anyone would pay."""
    usage = {"input": 9 * 2**31, "output": 9 * 2**31}
    with tenant_context(tenant) as alias:
        step = step_of(alias, usage, {"input": "9999.999999999999", "output": "0"})
        assert costs(alias, step) == (usage["input"] * Decimal("9.999999999999999"), None)


@pytest.mark.parametrize(
    ("size", "prices", "limit"),
    [
        # A prompt that is written to the cache costs more than its input.
        (1000, PRICES, "0.007"),
        (300_000, LONG_PRICES, "2.403"),
        (1000, {"output": "0.02"}, None),
    ],
)
def test_the_limit_of_an_unknown_call_has_the_highest_price(
    tenant: Tenant, size: int, prices: dict[str, Any], limit: str | None
) -> None:
    with tenant_context(tenant) as alias:
        step = step_of(alias, None, prices)
        Call.objects.using(alias).create(
            run=step.run,
            step=step,
            status=CallStatus.UNKNOWN,
            version=1,
            attempt=1,
            lease_token=1,
            llm_provider="openai",
            llm_model="m",
            max_input_tokens=size,
            max_output_tokens=100,
        )
        cost = RunCost.objects.using(alias).get(run=step.run_id)
    assert cost.unknown_cost_limit == (limit and Decimal(limit))


def test_what_earlier_releases_counted_keeps_its_cost_to_the_last_digit(tenant: Tenant) -> None:
    """300 steps are inserted before the migration; the figures of all runs are the same after it."""
    migration = importlib.import_module("runs.migrations.0006_prices_by_unit")
    assert tenant.server is not None
    database = tenant.database_url.rpartition("/")[2]
    figures = (
        "SELECT run_id, total_llm_cost, total_input_tokens, total_output_tokens, unpriced_steps, unknown_calls,"
        " unknown_cost_limit FROM run_costs ORDER BY run_id"
    )
    with psycopg.connect(superuser_url(tenant.server.admin_url, database)) as admin:
        # Undo a later migration, which needs the column.
        admin.execute(importlib.import_module("runs.migrations.0007_budgets").REVERSE)
        admin.execute(migration.BEFORE)
        admin.execute("ALTER TABLE steps DROP COLUMN prices")
        _insert_earlier(admin, random.Random(14))
        admin.execute("SET CONSTRAINTS ALL IMMEDIATE")
        before = admin.execute(figures).fetchall()
        admin.execute("ALTER TABLE steps ADD COLUMN prices jsonb")
        admin.execute(migration.STEP_COSTS)
        admin.execute(migration.RUN_COSTS)
        after = admin.execute(figures).fetchall()
        admin.rollback()
    assert len(before) >= 60 and any(row[1] for row in before) and any(row[4] for row in before)
    assert after == before


def _insert_earlier(admin: psycopg.Connection, rng: random.Random) -> None:
    """Insert steps and calls as left by earlier releases, which counted all units as plain input and output."""
    for _ in range(60):
        found = admin.execute("INSERT INTO runs (status) VALUES ('completed') RETURNING id").fetchone()
        assert found is not None
        for position in range(5):
            usage = {"input": rng.randrange(10**7), "output": rng.randrange(10**6)}
            cached = {"cached_read": usage["input"] // 2, "reasoning": usage["output"] // 3}
            shown = rng.choice([usage, usage, usage | cached, {"input": 7}, {}, None])
            prices = [rng.choice([None, "0", *[f"{rng.randrange(10**6)}e-6"] * 8]) for _ in range(2)]
            step = admin.execute(
                "INSERT INTO steps (run_id, step, status, token_usage, cost_per_1k_input_tokens,"
                " cost_per_1k_output_tokens) VALUES (%s, %s, 'completed', %s, %s, %s) RETURNING id",
                [found[0], f"step_{position}", None if shown is None else json.dumps(shown), *prices],
            ).fetchone()
            assert step is not None
            admin.execute(
                "INSERT INTO calls (run_id, step_id, version, attempt, lease_token, llm_provider, llm_model, status,"
                " max_input_tokens, max_output_tokens) VALUES (%s, %s, 1, 1, 1, 'p', 'm', %s, %s, %s)",
                [found[0], step[0], rng.choice(["settled", "unknown"]), rng.randrange(10**6), rng.randrange(10**5)],
            )


def test_documents_of_prices_are_read_as_they_were_written() -> None:
    prices = ModelPrices({"input": Decimal("0.00000000123"), "long_input": Decimal("10")}, 5)
    document = prices.as_document()
    assert document == {"input": "0.00000000123", "long_input": "10", "long_context_over": 5}
    assert ModelPrices.from_document(json.loads(json.dumps(document))) == prices
    assert ModelPrices.from_document(None) == ModelPrices()
