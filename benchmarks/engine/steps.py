"""How many steps a worker executes if the model replies at once: the cost of the engine itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.engine.contenders import BareCelery, Contender, Dbos, Product
from benchmarks.engine.shares import step_shares
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios
from benchmarks.tables import Row, Table

ROUNDS = 5
RUNS = 40
# DBOS polls a queue once a second by default, and at each poll takes no more than may run at once; so its speed is that
# of its poll. Polling faster loads the database with queries, but shows what the engine can do; then two processes may
# be faster than one, or hinder each other, so that the better one counts.
DBOS_DEFAULT_POLL_S = 1.0
DBOS_FAST_POLL_S = 0.01
RUNS_AT_DEFAULT_POLL = 12
# Calls before and after do not count: workers start, connections open, and at the end not everybody has work.
FIRST_COUNTED, LAST_COUNTED = 0.2, 0.95
STALLED_S = 60.0
# Between two looks, which cost the others time.
POLL_S = 0.5


def steps(environment: Environment) -> list[Table]:
    """Compare the product's worker with DBOS and with a bare Celery chain, each doing the same calls."""
    from llm.selectors import pipeline

    names = [step.step for step in pipeline()]
    product = Product(environment)

    def timed(contender: Contender, runs: int = RUNS) -> Callable[[], float]:
        return lambda: _seconds_per_step(environment, contender, runs, len(names))

    seconds = interleaved(
        {
            "product": timed(product),
            "dbos": timed(Dbos(environment, "dbos", names, processes=1, poll_s=DBOS_FAST_POLL_S)),
            "dbos processes": timed(Dbos(environment, "dbos_two", names, processes=2, poll_s=DBOS_FAST_POLL_S)),
            "dbos default": timed(
                Dbos(environment, "dbos_default", names, processes=1, poll_s=DBOS_DEFAULT_POLL_S), RUNS_AT_DEFAULT_POLL
            ),
            "bare": timed(BareCelery(environment, names)),
        },
        rounds=ROUNDS,
    )
    # More steps per second is fewer seconds per step.
    ours, bare = seconds["product"], seconds["bare"]
    fast = [min(pair) for pair in zip(seconds["dbos"], seconds["dbos processes"], strict=True)]
    rows = [
        Row("product ÷ DBOS as its manual configures a queue", ratios(seconds["dbos default"], ours), at_least=2),
        Row("product ÷ DBOS polling 100 times a second", ratios(fast, ours), at_least=2),
        Row("product ÷ bare Celery chain", ratios(bare, ours)),
        Row("bare Celery chain ÷ DBOS polling 100 times a second", ratios(fast, bare)),
    ]
    return [Table("Steps per second with an instant model", rows), step_shares(product)]


def _seconds_per_step(environment: Environment, contender: Contender, runs: int, steps: int) -> float:
    """Add runs, execute them, and measure on the model's side how fast the calls came."""
    environment.llm.forget()
    before = contender.finished()
    contender.enqueue(runs)
    with contender.worker():
        _wait(environment, contender, before + runs)
    calls = environment.llm.times()
    if len(calls) != runs * steps:
        raise RuntimeError(f"{len(calls)} calls instead of {runs * steps}")
    first, last = int(FIRST_COUNTED * len(calls)), int(LAST_COUNTED * len(calls))
    return (calls[last] - calls[first]) / (last - first)


def _wait(environment: Environment, contender: Contender, finished: int) -> None:
    """Wait until this many runs are finished; raise if the calls stop before that."""
    calls, since = 0, time.monotonic()
    while contender.finished() < finished:
        time.sleep(POLL_S)
        if len(environment.llm.times()) > calls:
            calls, since = len(environment.llm.times()), time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise RuntimeError(f"no call of the model for {STALLED_S:g} s; {contender.finished()} runs are finished")
