"""Calls as long as a real model's: how many one worker keeps in flight, at what cost, and what it adds to each step."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from benchmarks.engine.instant_llm import Call, Observer, instant_llm
from benchmarks.engine.product import Product
from benchmarks.engine.watch import SERVICES, Watch
from benchmarks.environment import Environment
from benchmarks.tables import Row, Table

MB = 1_000_000
POLL_S = 0.5
STALLED_S = 120.0

LONG_S = 20.0
IN_FLIGHT = 200
# 1,000 steps: enough to keep all places filled until the end, so that the last steps of a few runs do not count.
RUNS, STEPS = 500, ("keyword_analysis", "outline")
# Each may have 48 steps in flight by default.
TENANTS = 10

SHORT_S = 2.0
SHORT_IN_FLIGHT = 32
# Runs begin one at a time, at the rate that keeps this many calls in flight, spread evenly.
STARTED_RUNS = 160


def many_calls(environment: Environment) -> list[Table]:
    """Keep 200 calls of 20 s in flight until 1,000 steps are done."""
    with instant_llm(environment.log("long_llm"), LONG_S) as llm:
        product = Product(environment, "Long calls", tenants=TENANTS)
        product.enqueue(RUNS, steps=STEPS)
        with product.worker(LOCAL_LLM_URL=llm.url, WORKER_CONCURRENCY=str(IN_FLIGHT)) as watch:
            started, used = time.monotonic(), watch.processor_seconds()
            _wait(product, llm, RUNS, watch)
            seconds = time.monotonic() - started
            used = _difference(used, watch.processor_seconds())
        number = RUNS * len(STEPS)
        rows = [
            Row("calls in flight", [peak_in_flight(llm.calls())], at_least=IN_FLIGHT),
            Row("time ÷ that of the calls alone", [seconds / (number / IN_FLIGHT * LONG_S)], at_most=1.15),
            Row("memory of the worker, MB", [watch.peak_bytes / MB], at_most=500),
            Row("its connections to PostgreSQL", [watch.peak_connections], at_most=20),
            *_processor_rows(used, number),
        ]
    return [Table(f"{IN_FLIGHT} calls of {LONG_S:g} s in flight, {number:,} steps", rows)]


def added_time(environment: Environment) -> list[Table]:
    """Measure the time from the end of a call to the start of its run's next one, with 32 calls of 2 s in flight."""
    from llm.selectors import pipeline
    from runs.services.resume import run_resume

    with instant_llm(environment.log("short_llm"), SHORT_S) as llm:
        product = Product(environment, "Short calls", tenants=4)
        held = [product.add(tenant_id, hold=True) for _ in range(STARTED_RUNS // 4) for tenant_id in product.tenants]
        interval_s = SHORT_S * len(pipeline()) / SHORT_IN_FLIGHT
        with product.worker(LOCAL_LLM_URL=llm.url) as watch:
            begin = time.monotonic()
            for number, (tenant_id, run_id, _known_as) in enumerate(held):
                time.sleep(max(0.0, begin + number * interval_s - time.monotonic()))
                run_resume(tenant_id=tenant_id, run_id=run_id)
            started_all = time.monotonic()
            _wait(product, llm, STARTED_RUNS, watch)
        # Not while the number of calls in flight is still growing, or is falling again.
        steady = (begin + SHORT_IN_FLIGHT * interval_s, started_all)
        added_ms = sorted(1000 * gap for gap in _gaps(llm.calls(), *steady))
        rows = [
            Row("calls in flight", [peak_in_flight(llm.calls())]),
            Row("added to a step, median, ms", [statistics.median(added_ms)], at_most=50),
            Row("added to a step, 99th percentile, ms", [added_ms[int(0.99 * len(added_ms))]], at_most=250),
        ]
    return [Table(f"{SHORT_IN_FLIGHT} calls of {SHORT_S:g} s in flight: what the engine adds to a step", rows)]


def peak_in_flight(calls: Sequence[Call]) -> int:
    """Return the largest number of calls that were in flight at the same time."""
    changes = [(call.began, 1) for call in calls] + [(call.ended, -1) for call in calls if call.ended is not None]
    peak = now = 0
    for _at, change in sorted(changes):
        now += change
        peak = max(peak, now)
    return peak


def _gaps(calls: Sequence[Call], begin: float, end: float) -> Iterator[float]:
    """Yield the seconds from the end of each call to the start of its run's next one, if both are in this period."""
    of_run = defaultdict(list)
    for call in calls:
        of_run[call.run].append(call)
    for steps in of_run.values():
        for one, following in pairwise(steps):
            if one.ended is not None and begin <= one.ended and following.began <= end:
                yield following.began - one.ended


def _wait(product: Product, llm: Observer, finished: int, watch: Watch) -> None:
    """Wait until this many runs are finished; raise if no call ends for `STALLED_S` seconds."""
    ended, since = 0, time.monotonic()
    while product.finished() < finished:
        time.sleep(POLL_S)
        watch.look()
        now = sum(call.ended is not None for call in llm.calls())
        if now > ended:
            ended, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise RuntimeError(f"no call has ended for {STALLED_S:g} s; {product.finished()} runs are finished")


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before}


def _processor_rows(seconds: dict[str, float], steps: int) -> Iterator[Row]:
    for name in SERVICES:
        yield Row(f"processor time of a step, {name}, ms", [1000 * seconds[name] / steps])
