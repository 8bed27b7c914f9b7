"""Send wake-ups through Celery, count or remove those in the queue, and check that broker and workers answer."""

import base64
import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from config.celery import app
from runs.errors import BrokerUnavailable, NoWorker
from runs.messages.format import ROUTE, is_uuid
from runs.messages.task_names import EXECUTE_STEP

logger = logging.getLogger(__name__)


# How long to wait for the broker.
ANSWER_S = 1
# How long to wait for the workers' answers. A busy worker may need longer, so they are asked twice.
WORKER_ANSWERS_S = (1, 4)
# What kombu raises if the broker cannot be reached, and the errors that pass through it later.
UNREACHABLE = (OperationalError, OSError, RedisError)


def send_wake_up(
    tenant_id: str, run_id: UUID, step: str, *, route: str | None = None, delay_s: float | None = None
) -> None:
    """Wake a worker for a step that may be due, after `delay_s` seconds. `route` is its "provider/model".

    If the broker cannot be reached, this logs a warning and raises nothing: the database is the source of truth, and
    the sweep sends the wake-up again.
    """
    try:
        app.send_task(
            EXECUTE_STEP,
            args=[tenant_id, str(run_id), step],
            countdown=_countdown(delay_s),
            ignore_result=True,
            headers={ROUTE: route} if route else None,
        )
    except OperationalError:
        logger.warning(
            "wake-up not sent: the broker cannot be reached",
            extra={"action": "wake_up.lost", "tenant": tenant_id, "run_id": str(run_id), "step": step},
        )


def _countdown(delay_s: float | None) -> float | None:
    """Return the delay to request. For a quorum queue, any delay is at least a second, because Celery refuses less."""
    if not delay_s or app.conf.task_default_queue_type != "quorum":
        return delay_s
    return max(delay_s, 1.0)


def drop_wake_ups(tenant_id: str, *, exist: Callable[[Collection[str]], Collection[str]]) -> int | None:
    """Remove the tenant's queued wake-ups for runs that do not exist, and return how many were removed.

    `exist` takes run ids, and returns those of the runs that exist. Returns None if the broker cannot show its queue
    (only Redis and Valkey can) or does not answer. That is harmless: a wake-up for a run that does not exist does
    nothing.
    """
    with suppress(*UNREACHABLE), _channel() as channel:
        if channel is None:
            return None
        waiting = {raw: run for raw in _waiting(channel) if (run := _run_of(raw, tenant_id)) and is_uuid(run)}
        known = exist(set(waiting.values()))
        return sum(_drop(channel, raw) for raw, run in waiting.items() if run not in known)
    return None


def count_messages(tenant_id: str) -> int | None:
    """Return the number of the tenant's wake-ups that `erase_messages` would remove.

    Returns None if the broker cannot show its queue. Raises `BrokerUnavailable` if the broker does not answer.
    """
    with _reporting_unreachable(), _channel() as channel:
        if channel is None:
            return None
        waiting = [raw for raw in _waiting(channel) if _run_of(raw, tenant_id)]
        return len(waiting) + len(_taken(channel, tenant_id))


def erase_messages(tenant_id: str) -> int | None:
    """Remove every wake-up of the tenant, including those that workers hold unacknowledged; return their number.

    Returns None if the broker cannot show its queue. Raises `BrokerUnavailable` if the broker does not answer.
    """
    with _reporting_unreachable(), _channel() as channel:
        if channel is None:
            return None
        dropped = sum(_drop(channel, raw) for raw in _waiting(channel) if _run_of(raw, tenant_id))
        taken = _taken(channel, tenant_id)
        for tag in taken:
            # The same as an acknowledgement. A worker that still holds the message finds the tenant closed.
            channel.client.pipeline().zrem(channel.unacked_index_key, tag).hdel(channel.unacked_key, tag).execute()
        return dropped + len(taken)


@contextmanager
def _reporting_unreachable() -> Iterator[None]:
    """Raise `BrokerUnavailable` if the broker cannot be reached."""
    try:
        yield
    except UNREACHABLE as error:
        raise BrokerUnavailable(
            _("The message broker %(address)s cannot be used.") % {"address": address_of_broker()},
            hint=_("Check `seo-gen stack status` and the broker's address in CELERY_BROKER_URL."),
        ) from error


@contextmanager
def _channel() -> Iterator[Any]:
    """Yield kombu's channel to Redis or Valkey; None for any other broker, whose queues cannot be read."""
    with app.connection_for_write(connect_timeout=ANSWER_S) as connection:
        channel = connection.default_channel
        yield channel if hasattr(getattr(channel, "client", None), "lrange") else None


def _waiting(channel: Any) -> list[bytes]:
    found: list[bytes] = channel.client.lrange(app.conf.task_default_queue, 0, -1)
    return found


def _drop(channel: Any, raw: bytes) -> int:
    return int(channel.client.lrem(app.conf.task_default_queue, 0, raw))


def _taken(channel: Any, tenant_id: str) -> list[bytes]:
    """Return the tags of the tenant's messages that workers hold; skip messages of other installations."""
    tags = []
    for tag, raw in channel.client.hgetall(channel.unacked_key).items():
        try:
            message, _exchange, queue = json.loads(raw)
        except (ValueError, TypeError, RecursionError):
            continue  # malformed; workers drop it
        if queue == app.conf.task_default_queue and _run_of(json.dumps(message).encode(), tenant_id):
            tags.append(tag)
    return tags


def _run_of(raw: bytes, tenant_id: str) -> str | None:
    """Return the id of the run that a message (as Redis holds it) wakes; None if it is not a wake-up of the tenant."""
    try:
        message = json.loads(raw)
        if message["headers"]["task"] != EXECUTE_STEP:
            return None
        message_tenant, run_id, _step = json.loads(base64.b64decode(message["body"]))[0]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return str(run_id) if message_tenant == tenant_id else None


def require_broker() -> None:
    """Raise `BrokerUnavailable` if the broker does not answer."""
    try:
        with app.connection_for_write(connect_timeout=ANSWER_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_S)
    except OperationalError as error:
        raise BrokerUnavailable(
            _("The message broker %(address)s cannot be used, so the run was not started.")
            % {"address": address_of_broker()},
            hint=_("Check `seo-gen stack status` and the broker's address in CELERY_BROKER_URL."),
        ) from error


def require_worker() -> None:
    """Raise `BrokerUnavailable` if the broker does not answer; `NoWorker` if no worker on our queue answers."""
    require_broker()
    queue = app.conf.task_default_queue
    if not any(_is_listened_to(queue, timeout_s) for timeout_s in WORKER_ANSWERS_S):
        raise NoWorker(
            _("No worker on the queue %(queue)s answered, so the run was not started.") % {"queue": queue},
            hint=_(
                "Start one with `seo-gen stack start`, or leave out --wait: the run is then created and waits for a"
                " worker."
            ),
        )


def _is_listened_to(queue: str, timeout_s: float) -> bool:
    answers = app.control.inspect(timeout=timeout_s).active_queues() or {}
    return any(queue == listened["name"] for queues in answers.values() for listened in queues)


def address_of_broker() -> str:
    """Return the broker's URL with the password masked."""
    return str(app.connection_for_write().as_uri())
