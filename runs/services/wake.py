"""When a wake-up is sent, and when it counts as lost."""

from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction

from runs.messages.sending import send_wake_up

# Each repeated wake-up waits twice as long as the one before, so that a backlog of waiting runs does not fill the
# broker. The delay stops growing after this many (at about an hour, if the lease is a minute).
REWAKE_MAX_DOUBLINGS = 6


def wake_on_commit(*, alias: str, tenant_id: str, run_id: UUID, step: str, delay_s: float | None = None) -> None:
    """Send the wake-up after the current transaction on `alias` commits, and only then."""
    transaction.on_commit(partial(send_wake_up, tenant_id, run_id, step, delay_s=delay_s), using=alias)


def rewake_s(wake_count: int) -> float:
    """Return the seconds that a wake-up may go without a claim before the sweep repeats it, after `wake_count` repeats.

    The first one gets the length of a lease: a worker that died with the message would have lost its lease by then.
    """
    return float(settings.RUN_LEASE_S * 2 ** min(wake_count, REWAKE_MAX_DOUBLINGS))
