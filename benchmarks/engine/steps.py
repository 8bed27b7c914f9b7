"""How many steps per second a worker executes if the model replies immediately: the cost of the engine itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.engine.contenders import CONCURRENCY, BareCelery, Contender, Dbos
from benchmarks.engine.product import Product
from benchmarks.engine.shares import step_shares
from benchmarks.engine.watch import SERVICES, Watch
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios
from benchmarks.tables import Row, Table

ROUNDS = 5
RUNS = 100
# The product's runs are spread over this many tenants.
TENANTS = 4
# By default, DBOS polls a queue once a second, and takes no more at each poll than may run at the same time. So polling
# limits its speed. Faster polling loads the database with queries, but shows what the engine can do.
DBOS_DEFAULT_POLL_S = 1.0
DBOS_FAST_POLL_S = 0.01
# As in its manual: a worker takes only a few at a time.
DBOS_DEFAULT_CONCURRENCY = 2
RUNS_AT_DEFAULT_POLL = 12
# Calls before and after do not count: workers start and open connections, and at the end some have no work left.
FIRST_COUNTED, LAST_COUNTED = 0.2, 0.95
STALLED_S = 60.0
# Between two measurements, which cost the contender time.
POLL_S = 0.5


def steps(environment: Environment) -> list[Table]:
    """Compare the product's worker with DBOS and with a bare Celery chain; all call the same instant model.

    The chain and DBOS with fast polling run in one process with threads, as the product does, and in two processes; in
    each round, the faster of the two counts.
    """
    from llm.selectors import pipeline

    names = [step.step for step in pipeline()]
    product = Product(environment, "Steps", tenants=TENANTS)
    measured = _Measured()

    def timed(contender: Contender, runs: int = RUNS) -> Callable[[], float]:
        return lambda: _seconds_per_step(environment, contender, runs, len(names))

    def dbos(name: str, processes: int) -> Dbos:
        return Dbos(environment, name, names, processes=processes, concurrency=CONCURRENCY, poll_s=DBOS_FAST_POLL_S)

    default = Dbos(
        environment,
        "dbos_default",
        names,
        processes=1,
        concurrency=DBOS_DEFAULT_CONCURRENCY,
        poll_s=DBOS_DEFAULT_POLL_S,
    )
    seconds = interleaved(
        {
            "product": lambda: _seconds_per_step(environment, product, RUNS, len(names), measured),
            "dbos": timed(dbos("dbos", 1)),
            "dbos processes": timed(dbos("dbos_two", 2)),
            "dbos default": timed(default, RUNS_AT_DEFAULT_POLL),
            "bare": timed(BareCelery(environment, names, pool="threads", concurrency=CONCURRENCY)),
            "bare processes": timed(BareCelery(environment, names, pool="prefork", concurrency=2)),
        },
        rounds=ROUNDS,
    )
    # More steps per second is fewer seconds per step.
    ours = seconds["product"]
    fast = [min(pair) for pair in zip(seconds["dbos"], seconds["dbos processes"], strict=True)]
    bare = [min(pair) for pair in zip(seconds["bare"], seconds["bare processes"], strict=True)]
    rows = [
        Row("product ÷ DBOS as its manual configures a queue", ratios(seconds["dbos default"], ours), at_least=2),
        Row("product ÷ DBOS polling 100 times a second", ratios(fast, ours), at_least=0.6),
        Row("product ÷ bare Celery chain", ratios(bare, ours), at_least=0.3),
        Row("product ÷ bare Celery chain in threads too", ratios(seconds["bare"], ours)),
        Row("bare Celery chain ÷ DBOS polling 100 times a second", ratios(fast, bare)),
        *(Row(f"processor time of a step, {name}, ms", measured.of(name)[1:]) for name in SERVICES),
    ]
    return [Table("Steps per second with an instant model", rows), step_shares(product)]


@dataclass
class _Measured:
    """The product's processor time per step in milliseconds, by round and service."""

    rounds: list[dict[str, float]] = field(default_factory=list)

    def of(self, service: str) -> list[float]:
        return [found[service] for found in self.rounds]


@dataclass(frozen=True)
class _Look:
    """The processor time that each service had used when this many calls had arrived."""

    calls: int
    seconds: dict[str, float]


def _seconds_per_step(
    environment: Environment, contender: Contender, runs: int, steps: int, measured: _Measured | None = None
) -> float:
    """Add runs, execute them, and return the seconds per step, computed from when the model's server was called."""
    environment.llm.forget()
    before = contender.finished()
    contender.enqueue(runs)
    with contender.worker() as worker:
        looks = _wait(environment, contender, before + runs, worker if isinstance(worker, Watch) else None)
    calls = environment.llm.times()
    if len(calls) != runs * steps:
        raise RuntimeError(f"{len(calls)} calls instead of {runs * steps}")
    first, last = int(FIRST_COUNTED * len(calls)), int(LAST_COUNTED * len(calls))
    if measured is not None:
        measured.rounds.append(_processor_ms(looks, first, last))
    return (calls[last] - calls[first]) / (last - first)


def _processor_ms(looks: list[_Look], first: int, last: int) -> dict[str, float]:
    """Return each service's CPU milliseconds per step, between the measurements nearest to these numbers of calls."""
    begin = min(looks, key=lambda look: abs(look.calls - first))
    end = min(looks, key=lambda look: abs(look.calls - last))
    if end.calls <= begin.calls:
        raise RuntimeError("too few measurements while the steps were executed")
    return {
        name: 1000 * (end.seconds[name] - begin.seconds[name]) / (end.calls - begin.calls) for name in begin.seconds
    }


def _wait(environment: Environment, contender: Contender, finished: int, watch: Watch | None) -> list[_Look]:
    """Wait until this many runs are finished; return what `watch` saw. Raise if no call arrives for `STALLED_S`."""
    calls, since, looks = 0, time.monotonic(), []
    while contender.finished() < finished:
        time.sleep(POLL_S)
        now = len(environment.llm.times())
        if watch is not None:
            looks.append(_Look(now, watch.processor_seconds()))
        if now > calls:
            calls, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise RuntimeError(f"no call of the model for {STALLED_S:g} s; {contender.finished()} runs are finished")
    return looks
