"""Decide how long to wait before a retry."""

import random

# Our own delay before the first retry is at most this long; the maximum doubles with each later one.
FIRST_S = 2.0
# Limit for our own delays; a provider may ask for longer ones.
LONGEST_S = 300.0
# Limit for the delay that a provider asks for: one day.
LONGEST_ASKED_S = 86_400.0


def delay_s(attempt: int, asked_s: float | None, jitter: float | None = None) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1).

    `asked_s` is the delay that the provider asks for, if any: a minimum, up to `LONGEST_ASKED_S`. `jitter` (0 to 1,
    random by default) spreads the retries of steps that failed at the same time.
    """
    spread = 0.5 + (random.random() if jitter is None else jitter) / 2
    own = min(FIRST_S * 2.0 ** min(attempt - 1, 20), LONGEST_S) * spread
    return max(own, min(asked_s or 0.0, LONGEST_ASKED_S))
