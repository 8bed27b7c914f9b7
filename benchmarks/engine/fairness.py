"""How long a customer's article takes while another customer's backlog is waiting."""

from __future__ import annotations

import time
from uuid import UUID

from benchmarks.engine.instant_llm import instant_llm
from benchmarks.engine.product import Product
from benchmarks.environment import Environment
from benchmarks.measure import ratios
from benchmarks.tables import Row, Table

CALL_S = 5.0
BACKLOG = 500
# Other customers, each with one run at a time.
OTHERS = 3
POLL_S = 0.05
PATIENCE_S = 600.0


def fairness(environment: Environment) -> list[Table]:
    """Time runs on an empty system, and again while another tenant's backlog is waiting."""
    with instant_llm(environment.log("fairness_llm"), CALL_S) as llm:
        busy = Product(environment, "Backlog", tenants=1)
        others = Product(environment, "Others", tenants=OTHERS)
        with others.worker(LOCAL_LLM_URL=llm.url):
            _seconds(others)  # imports, connections
            alone = _seconds(others)
        busy.enqueue(BACKLOG)
        with others.worker(LOCAL_LLM_URL=llm.url):
            _seconds(others)
            beside = _seconds(others)
            waiting = BACKLOG - busy.finished()
        busy.forget()
    rows = [
        Row(f"with {BACKLOG} runs of another tenant ÷ without", ratios(beside, alone), at_most=1.5),
        Row("runs of the other tenant that were not finished afterwards", [waiting], at_least=1),
    ]
    return [Table("One run beside another tenant's backlog", rows)]


def _seconds(product: Product) -> list[float]:
    """Start a run for each tenant, and return how long each took to finish."""
    started = {product.add(tenant_id)[:2]: time.monotonic() for tenant_id in product.tenants}
    took: dict[tuple[str, UUID], float] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(took) < len(started):
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(took)} of {len(started)} runs ended")
        time.sleep(POLL_S)
        for run in started.keys() - took.keys():
            if _has_completed(*run):
                took[run] = time.monotonic() - started[run]
    return [took[run] for run in started]


def _has_completed(tenant_id: str, run_id: UUID) -> bool:
    from runs.models import Run, RunStatus
    from tenants.routing.context import tenant_context

    with tenant_context(tenant_id) as alias:
        return Run.objects.using(alias).filter(pk=run_id, status=RunStatus.COMPLETED).exists()
