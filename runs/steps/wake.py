"""Send wake-ups, and decide when one counts as lost."""

from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction

from runs.messages.sending import send_wake_up
from runs.models import Step
from runs.turns import Waiting, enqueue

# Each repeated wake-up waits twice as long as the one before, so that a backlog of waiting runs does not fill the
# broker. The delay stops growing after this many (at about an hour, if the lease is a minute).
REWAKE_MAX_DOUBLINGS = 6
# A worker keeps delayed messages in memory, and brokers deliver them anew after a while. Longer delays are left to the
# sweep.
LONGEST_DELAY_S = 300.0
# The route of messages that name none: those of earlier releases.
UNKNOWN_ROUTE = "unknown/unknown"


def waiting_of(tenant_id: str, row: Step) -> Waiting:
    """Return the step in the form in which it waits for its turn."""
    return Waiting(tenant_id, str(row.run_id), row.step, route_of(row.llm_provider, row.llm_model))


def route_of(provider: str | None, model: str | None) -> str:
    return f"{provider}/{model}"


def wake_on_commit(*, alias: str, waiting: Waiting, delay_s: float | None = None) -> None:
    """Wake a worker after the current transaction on `alias` commits, and only then."""
    transaction.on_commit(partial(wake, waiting, delay_s=delay_s), using=alias)


def wake(waiting: Waiting, *, delay_s: float | None = None) -> None:
    """Put the step into its tenant's queue and wake a worker, after `delay_s` seconds if given.

    If the delay is longer than `LONGEST_DELAY_S`, the sweep wakes the worker instead.
    """
    enqueue(waiting, delay_s=delay_s)
    if delay_s is None or delay_s <= LONGEST_DELAY_S:
        send_wake_up(waiting.tenant_id, UUID(waiting.run_id), waiting.step, route=waiting.route, delay_s=delay_s)


def rewake_s(wake_count: int) -> float:
    """Return the seconds that a wake-up may go without a claim before the sweep repeats it, after `wake_count` repeats.

    The first one gets the length of a lease: a worker that died with the message would have lost its lease by then.
    """
    return float(settings.RUN_LEASE_S * 2 ** min(wake_count, REWAKE_MAX_DOUBLINGS))
