"""When a failed attempt is tried again: pure decisions."""

import random

# The first retry waits about this long, each further one twice as long.
FIRST_S = 2.0
# What we choose ourselves never exceeds this; what a provider asks for may.
LONGEST_S = 300.0
# A provider that asks for more than a day is not believed.
LONGEST_ASKED_S = 86_400.0


def delay_s(attempt: int, asked_s: float | None, jitter: float | None = None) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1).

    `asked_s` is the provider's Retry-After, which is the least that is waited. `jitter` (0 to 1, random unless given)
    spreads those who failed together.
    """
    spread = 0.5 + (random.random() if jitter is None else jitter) / 2
    own = min(FIRST_S * 2.0 ** min(attempt - 1, 20), LONGEST_S) * spread
    return max(own, min(asked_s or 0.0, LONGEST_ASKED_S))
