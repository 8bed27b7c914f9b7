"""Measure where a step's time goes: time the product's functions, each without the timed functions that it calls."""

from __future__ import annotations

import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from typing import Any
from unittest.mock import patch
from uuid import UUID

from benchmarks.engine.product import Product
from benchmarks.measure import shares
from benchmarks.tables import Row, Table

logger = logging.getLogger(__name__)

RUNS = 12
WARM_UP_RUNS = 2

# (module, name inside it, label of its time)
TIMED = (
    ("runs.steps.execute", "step_execute", "the rest of the engine"),
    ("tenants.routing.context", "tenant_context.__enter__", "enter the tenant's context"),
    ("tenants.routing.context", "tenant_context.__exit__", "leave the tenant's context"),
    (
        "tenants.routing.backend.base",
        "DatabaseWrapper.get_new_connection",
        "take the tenant's connection from the pool",
    ),
    ("django.db.backends.base.base", "BaseDatabaseWrapper._commit", "commits"),
    ("runs.steps.execute", "step_claim", "claim: rows"),
    ("runs.steps.claim", "find_model", "claim: the model in the catalogue"),
    ("runs.steps.execute", "prepare", "prepare: rows and files"),
    ("prompts.sandbox", "ask", "prepare: rendering"),
    ("runs.steps.execute", "call_begin", "record the call"),
    ("llm.clients.compatible", "CompatibleClient.complete", "the call of the model"),
    ("runs.steps.execute", "step_complete", "complete: rows"),
    ("runs.steps.finish", "store_output", "complete: files"),
    ("runs.steps.claim", "record", "audit entries"),
    ("runs.steps.finish", "record", "audit entries"),
    ("runs.summaries.summarize", "_summarize_now", "the run's summary"),
    ("runs.steps.wake", "wake", "queue the next step and wake a worker"),
)


def step_shares(product: Product) -> Table:
    """Execute steps in this process, one after the other, and return each part's share of the time."""
    runs = product.enqueue(WARM_UP_RUNS + RUNS)
    try:
        with _stopwatch() as watch:
            measured = [_do_run(watch, tenant_id, run_id) for tenant_id, run_id in runs]
    finally:
        product.forget()
    logger.info("in this process: %.6f s per run", statistics.median(sum(parts.values()) for parts in measured))
    rows = [Row(name, values, percent=True) for name, values in shares(measured[WARM_UP_RUNS:]).items()]
    return Table("A step: where the time goes", sorted(rows, key=lambda row: -row.median))


class _Stopwatch:
    """Adds up, by name, the time spent in functions, minus the time in other timed functions that they call."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._open.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        return wrapper

    def _switch(self) -> None:
        """Add the time since the last switch to the function that was running."""
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


@contextmanager
def _stopwatch() -> Iterator[_Stopwatch]:
    """Wrap everything in `TIMED` for the duration of the block."""
    watch = _Stopwatch()
    with ExitStack() as patches:
        for module, path, name in TIMED:
            owner, _, attribute = path.rpartition(".")
            target = getattr(import_module(module), owner) if owner else import_module(module)
            patches.enter_context(patch.object(target, attribute, watch.timed(getattr(target, attribute), name)))
        yield watch


def _do_run(watch: _Stopwatch, tenant_id: str, run_id: UUID) -> dict[str, float]:
    """Execute a run's steps, and return the seconds of each part."""
    from llm.selectors import pipeline
    from runs.steps import execute

    names = [step.step for step in pipeline()]
    watch.seconds.clear()
    for step in names:
        outcome = execute.step_execute(tenant_id=tenant_id, run_id=run_id, step=step, owner="benchmark")
        if outcome != "completed":
            raise RuntimeError(f"step {step} of run {run_id} was {outcome}")
    return dict(watch.seconds)
