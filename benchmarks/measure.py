"""Interleaved timing, and ratios between the results."""

import gc
import logging
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

# Does the work once or several times and returns the seconds for one unit of work.
Timed = Callable[[], float]

logger = logging.getLogger(__name__)


def interleaved(contenders: Mapping[str, Timed], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Time every contender once per round, and return the seconds of each, by round.

    This way, a disturbance on the machine affects all of them. The order is shuffled, so that no contender always
    follows the same other one. The first `warm_up` rounds are discarded.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffler = random.Random(0)
    for number in range(warm_up + rounds):
        shuffler.shuffle(order)
        for name in order:
            taken_s = contenders[name]()
            logger.debug("round %d, %s: %.6f s", number, name, taken_s)
            if number >= warm_up:
                seconds[name].append(taken_s)
    for name, values in seconds.items():
        logger.info("%s: median %.6f s", name, statistics.median(values))
    return seconds


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """Return the seconds that one call takes, on average over `times` calls in a row."""
    with _collected_garbage():
        started = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - started) / times


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio in each round."""
    return [one / other for one, other in zip(numerators, denominators, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def shares(parts: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return each part's share of its total, by repetition: [{"a": 1, "b": 3}] gives {"a": [0.25], "b": [0.75]}."""
    found: dict[str, list[float]] = {}
    for repetition in parts:
        total = sum(repetition.values())
        for name, seconds in repetition.items():
            found.setdefault(name, []).append(seconds / total)
    return found


@contextmanager
def _collected_garbage() -> Iterator[None]:
    """Collect garbage, then disable the garbage collector until the end of the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
