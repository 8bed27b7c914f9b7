"""How many steps a worker does where the model takes no time: what the engine itself costs."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.contenders import BareCelery, Contender, Dbos, Product
from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios
from benchmarks.tables import Row, Table

ROUNDS = 5
RUNS = 60
# DBOS polls once a second by default, and takes no more at a poll than may run at once.
DBOS_DEFAULT_POLL_S = 1.0
DBOS_FAST_POLL_S = 0.01
RUNS_AT_DEFAULT_POLL = 12
# Calls before and after do not count: workers start, connections open, and at the end not everybody has work.
FIRST_COUNTED, LAST_COUNTED = 0.2, 0.95
STALLED_S = 60.0


def steps(environment: Environment) -> list[Table]:
    """Compare the product's worker with DBOS and with a bare Celery chain, each doing the same calls."""
    from llm.selectors import pipeline

    names = [step.step for step in pipeline()]
    seconds = interleaved(
        {
            "product": _timed(environment, Product(environment), RUNS * len(names), RUNS),
        },
        rounds=ROUNDS,
    )
    return []
