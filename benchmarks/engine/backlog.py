"""The cost of 10,000 waiting runs: queueing them, the memory of Valkey and of a worker, and the sweep."""

from __future__ import annotations

import time
from copy import copy
from typing import TypeVar
from uuid import UUID, uuid4

from django.db.models import Model
from django.test.utils import override_settings

from benchmarks.engine.instant_llm import instant_llm
from benchmarks.engine.long_calls import MB, peak_in_flight
from benchmarks.engine.product import Product
from benchmarks.environment import Environment
from benchmarks.measure import seconds_of
from benchmarks.tables import Row, Table

ModelT = TypeVar("ModelT", bound=Model)

RUNS = 10_000
# These runs are created as people create them. The others are copies, because creating all of them would take minutes.
CREATED = 500
TENANTS = 10
CALL_S = 20.0
IN_FLIGHT = 64
PATIENCE_S = 300.0


def backlog(environment: Environment) -> list[Table]:
    """Create and queue runs, sweep them, and start a worker with all of them waiting."""
    from runs.steps.sweep import runs_sweep

    product = Product(environment, "Queued", tenants=TENANTS)
    with instant_llm(environment.log("backlog_llm"), CALL_S) as llm, product.worker(LOCAL_LLM_URL=llm.url) as watch:
        idle, empty = watch.memory_bytes("worker"), watch.memory_bytes("valkey")
    create_s = seconds_of(lambda: product.enqueue(CREATED)) / CREATED
    copies = [copied for tenant_id in product.tenants for copied in _copy_runs(tenant_id, (RUNS - CREATED) // TENANTS)]
    queue_s = seconds_of(lambda: _wake_all(copies)) / len(copies)
    # The copies are new to the control database, whose summaries the first sweep writes.
    summaries_s = seconds_of(runs_sweep)
    nothing_s = seconds_of(runs_sweep)
    with override_settings(RUN_LEASE_S=0.0):  # every wake-up counts as lost
        before = time.perf_counter()
        woken = runs_sweep().woken
        sweep_s = time.perf_counter() - before
    with instant_llm(environment.log("backlog_llm"), CALL_S) as llm, product.worker(LOCAL_LLM_URL=llm.url) as watch:
        started = time.monotonic()
        while peak_in_flight(llm.calls()) < IN_FLIGHT:
            if time.monotonic() - started > PATIENCE_S:
                raise RuntimeError(f"{peak_in_flight(llm.calls())} calls in flight instead of {IN_FLIGHT}")
            time.sleep(0.1)
            watch.look()
        full_s = time.monotonic() - started
        used = watch.memory_bytes("valkey")
    product.forget()
    rows = [
        Row("runs created per second, by one process", [1 / create_s]),
        Row("steps queued per second, by one process", [1 / queue_s]),
        Row("memory of Valkey, more than when empty, MB", [(used - empty) / MB]),
        Row("memory of the worker, MB", [watch.peak_bytes / MB], at_most=500),
        Row("the same ÷ without waiting runs", [watch.peak_bytes / idle]),
        Row("seconds of a sweep that writes the summaries of 9,500 runs", [summaries_s]),
        Row("seconds of a sweep that finds nothing to do", [nothing_s]),
        Row(f"seconds of a sweep that wakes {woken:,} steps", [sweep_s]),
        Row(f"seconds until a worker has {IN_FLIGHT} calls in flight", [full_s]),
    ]
    return [Table(f"{RUNS:,} runs waiting", rows)]


def _copy_runs(tenant_id: str, number: int) -> list[tuple[str, UUID, str, str]]:
    """Copy one of the tenant's runs `number` times; return (tenant id, run id, first step, its route) for each."""
    from runs.models import Run, Step
    from runs.steps.wake import route_of
    from tenants.routing.context import tenant_context

    with tenant_context(tenant_id) as alias:
        model = Run.objects.using(alias).earliest("created_at")
        steps = list(Step.objects.using(alias).filter(run=model).order_by("position"))
        runs = [_copy(model, pk=uuid4()) for _ in range(number)]
        Run.objects.using(alias).bulk_create(runs)
        Step.objects.using(alias).bulk_create(_copy(step, pk=None, run=run) for run in runs for step in steps)
        route = route_of(steps[0].llm_provider, steps[0].llm_model)
        return [(tenant_id, run.pk, steps[0].step, route) for run in runs]


def _copy(row: ModelT, **values: object) -> ModelT:
    copied = copy(row)
    for name, value in values.items():
        setattr(copied, name, value)
    return copied


def _wake_all(copies: list[tuple[str, UUID, str, str]]) -> None:
    from runs.steps.wake import wake
    from runs.turns import Waiting

    for tenant_id, run_id, step, route in copies:
        wake(Waiting(tenant_id, str(run_id), step, route))
