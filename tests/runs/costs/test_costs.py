"""The view `run_costs`: a run's cost from the prices stored with its steps."""

import uuid
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from runs.models import Call, CallStatus, Run, RunCost, Step
from runs.presentation.cost import cost_text
from runs.selectors import cost_document
from tenants.models import Tenant
from tenants.routing.context import tenant_context

Priced = tuple[dict[str, int] | None, str | None, str | None]


def text_of(row: RunCost) -> str:
    """Return the run's cost as a person reads it."""
    alias = str(row._state.db)
    steps = list(Step.objects.using(alias).filter(run=row.run_id))
    calls: dict[int, dict[str, int]] = {}
    for step, status in Call.objects.using(alias).filter(run=row.run_id).values_list("step_id", "status"):
        counted = calls.setdefault(step, {})
        counted[status] = counted.get(status, 0) + 1
    return cost_text(cost_document(row, steps, calls))


def cost_of(alias: str, *steps: Priced) -> RunCost:
    run = Run.objects.using(alias).create(status="completed")
    for position, (usage, input_price, output_price) in enumerate(steps):
        Step.objects.using(alias).create(
            run=run,
            step=f"step_{position}",
            status="completed",
            token_usage=usage,
            cost_per_1k_input_tokens=Decimal(input_price) if input_price else None,
            cost_per_1k_output_tokens=Decimal(output_price) if output_price else None,
        )
    return RunCost.objects.using(alias).get(run=run)


@pytest.mark.parametrize(
    ("steps", "cost", "unpriced", "text"),
    [
        ([({"input": 1000, "output": 500}, "0.003", "0.015")], "0.0105", 0, "USD 0.010500 (1000 tokens in, 500 out)"),
        ([({"input": 10, "output": 5}, "0", "0")], "0", 0, "USD 0.000000 (10 tokens in, 5 out)"),
        ([({"input": 10, "output": 5}, None, None)], None, 1, "unknown (10 tokens in, 5 out)"),
        ([({"input": 10, "output": 5}, "1", None)], None, 1, "unknown (10 tokens in, 5 out)"),
        (
            [({"input": 1000, "output": 0}, "1", "1"), ({"input": 1, "output": 1}, None, None)],
            "1",
            1,
            "at least USD 1.000000 (1001 tokens in, 1 out; without a known price: input 1, output 1)",
        ),
        ([(None, None, None)], None, 0, "unknown (0 tokens in, 0 out)"),
        ([(None, "0.003", "0.015")], None, 0, "USD 0.000000 (0 tokens in, 0 out)"),
        ([(None, "0.003", "0.015"), (None, None, "0.015")], None, 0, "unknown (0 tokens in, 0 out)"),
    ],
)
def test_a_cost_is_a_sum_of_what_is_known(
    tenant: Tenant, steps: list[Priced], cost: str | None, unpriced: int, text: str
) -> None:
    with tenant_context(tenant) as alias:
        row = cost_of(alias, *steps)
        assert text_of(row) == text
    assert row.total_llm_cost == (Decimal(cost) if cost is not None else None)
    assert row.unpriced_steps == unpriced


def test_a_run_without_steps_has_no_cost() -> None:
    assert cost_document(None, [], {}) == {
        "total_llm_cost": None,
        "exact_llm_cost": None,
        "total_input_tokens": None,
        "total_output_tokens": None,
        "tokens_by_unit": {},
        "unpriced_tokens": {},
        "unpriced_steps": 0,
        "cache_saving": None,
        "unknown_calls": 0,
        "unknown_cost_limit": None,
    }


@pytest.mark.parametrize(
    ("prices", "text"),
    [
        (
            ("1", "2"),
            "at least USD 2.000000 (1000 tokens in, 500 out); 2 calls with unknown cost, together at most USD 0.500000",
        ),
        (("1", None), "unknown (1000 tokens in, 500 out); 2 calls with unknown cost"),
    ],
)
def test_calls_whose_end_no_one_saw_make_the_cost_a_lower_bound(
    tenant: Tenant, prices: tuple[str, str | None], text: str
) -> None:
    with tenant_context(tenant) as alias:
        row = cost_of(alias, ({"input": 1000, "output": 500}, *prices))
        for status in (CallStatus.UNKNOWN, CallStatus.UNKNOWN, CallStatus.SETTLED, CallStatus.OPEN):
            add_call(alias, row, status)
        assert text_of(RunCost.objects.using(alias).get(run=row.run_id)) == text


def test_a_limit_that_leaves_a_call_out_is_not_stated(tenant: Tenant) -> None:
    """The view adds up only the calls with known prices, and one call has none."""
    with tenant_context(tenant) as alias:
        row = cost_of(alias, ({"input": 1, "output": 1}, "1", "1"), (None, None, None))
        for position in (0, 1):
            add_call(alias, row, CallStatus.UNKNOWN, step=f"step_{position}")
        row = RunCost.objects.using(alias).get(run=row.run_id)
        assert row.unknown_cost_limit is not None
        assert text_of(row) == "at least USD 0.002000 (1 token in, 1 out); 2 calls with unknown cost"


def add_call(alias: str, row: RunCost, status: str, *, step: str = "step_0") -> None:
    """Add a call of at most 50 tokens in and 100 out."""
    Call.objects.using(alias).create(
        run_id=row.run_id,
        step=Step.objects.using(alias).get(run=row.run_id, step=step),
        status=status,
        version=1,
        attempt=1,
        lease_token=1,
        llm_provider="openai",
        llm_model="m",
        max_input_tokens=50,
        max_output_tokens=100,
    )


def test_plain_sql_with_the_specified_columns_alone_works(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias, connections[alias].cursor() as sql:
        sql.execute("INSERT INTO runs (status) VALUES ('pending') RETURNING id, created_at, updated_at")
        run_id, created_at, updated_at = sql.fetchone()
        assert isinstance(run_id, uuid.UUID) and created_at and updated_at
        sql.execute(
            "INSERT INTO steps (run_id, step, status, llm_model, token_usage) "
            "VALUES (%s, 'draft', 'completed', 'm', %s) RETURNING id, retry_count, started_at, completed_at",
            [run_id, '{"input": 3, "output": 4}'],
        )
        assert sql.fetchone()[1] == 0
        sql.execute(
            "INSERT INTO artifacts (run_id, step, file_type, file_path) VALUES (%s, 'draft', 'markdown', 'x')",
            [run_id],
        )
        sql.execute("SELECT total_input_tokens, total_output_tokens FROM run_costs WHERE run_id = %s", [run_id])
        assert sql.fetchone() == (3, 4)


def test_updated_at_follows_every_update(tenant: Tenant) -> None:
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).create(status="pending")
        Run.objects.using(alias).filter(pk=run.pk).update(status="running")
        after = Run.objects.using(alias).get(pk=run.pk)
    assert after.updated_at > run.updated_at


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO runs (status) VALUES ('cancelled')", "runs_status_check"),
        ("INSERT INTO steps (run_id, step, status) SELECT id, 'x', 'paused' FROM runs LIMIT 1", "steps_status_check"),
        (
            "INSERT INTO steps (run_id, step, status) SELECT id, 'step_0', 'pending' FROM runs LIMIT 1",
            "steps_run_id_step_key",
        ),
        ("INSERT INTO steps (run_id, step, status) VALUES (NULL, 'x', 'pending')", "run_id"),
    ],
)
def test_the_database_rejects_invalid_rows(tenant: Tenant, statement: str, constraint: str) -> None:
    with tenant_context(tenant) as alias:
        cost_of(alias, (None, None, None))
        with (
            pytest.raises(IntegrityError, match=constraint),
            transaction.atomic(using=alias),
            connections[alias].cursor() as sql,
        ):
            sql.execute(statement)


def test_a_step_of_no_run_is_refused(tenant: Tenant) -> None:
    with (
        tenant_context(tenant) as alias,
        pytest.raises(IntegrityError, match="foreign key"),
        connections[alias].cursor() as sql,
    ):
        sql.execute("INSERT INTO steps (run_id, step, status) VALUES (gen_random_uuid(), 'x', 'pending')")


def test_the_view_cannot_be_written(tenant: Tenant) -> None:
    with (
        tenant_context(tenant) as alias,
        pytest.raises(DatabaseError, match=r"cannot|permission denied"),
        connections[alias].cursor() as sql,
    ):
        sql.execute("DELETE FROM run_costs")
