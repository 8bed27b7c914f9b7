"""Wake-ups: when one is sent, and when it counts as lost."""

from functools import partial
from uuid import UUID

from django.db import transaction

from runs.messages import send_wake_up

# A wake-up that did not lead to a claim after this long is sent again by the sweep; each further one waits twice as
# long, so that a backlog of waiting runs does not fill the broker with repetitions.
REWAKE_S = 60.0
REWAKE_MAX_DOUBLINGS = 6


def wake_on_commit(*, alias: str, tenant_id: str, run_id: UUID, step: str, delay_s: float | None = None) -> None:
    """Send the wake-up once the running transaction on `alias` is committed, and only then."""
    transaction.on_commit(partial(send_wake_up, tenant_id, run_id, step, delay_s=delay_s), using=alias)


def rewake_s(wake_count: int) -> float:
    """Return how long a wake-up may remain without a claim, after `wake_count` that did."""
    return REWAKE_S * float(2 ** min(wake_count, REWAKE_MAX_DOUBLINGS))
