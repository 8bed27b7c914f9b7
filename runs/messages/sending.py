"""Celery messages: wake-ups only, and small enough to hold nothing else.

Celery swallows what a `before_task_publish` receiver raises (`celery.utils.dispatch.signal.Signal.send`), so the guard
sits where every task message passes instead: the application is made with `Celery(…, amqp=GuardedAMQP)`.
"""

import base64
import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from celery.app.amqp import AMQP
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from config.celery import app
from runs.errors import BrokerUnavailable, MessageTooLarge, NoWorker
from runs.messages.format import MAX_MESSAGE_BYTES, is_uuid
from runs.messages.task_names import EXECUTE_STEP

logger = logging.getLogger(__name__)

# How long to wait for the broker, and for the workers' answers.
ANSWER_S = 1
# A worker on a busy machine may need longer, so it is asked again.
WORKER_ANSWERS_S = (1, 4)
# What kombu makes of a broker that cannot be reached, and what it lets through where that happens later.
UNREACHABLE = (OperationalError, OSError, RedisError)


class GuardedAMQP(AMQP):
    """Refuses to send a task message larger than `MAX_MESSAGE_BYTES`."""

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()  # type: ignore[misc]  # celery-types leaves it out

        def send_small(producer: Any, name: str, message: Any, **options: Any) -> Any:
            refuse_large(name, message, options.get("headers"))
            return send(producer, name, message, **options)

        return send_small


def refuse_large(name: str, message: Any, more_headers: Any = None) -> None:
    """Raise `MessageTooLarge` where headers and body (a Celery `task_message`) exceed the limit."""
    size_bytes = len(json.dumps([message.headers, more_headers, message.body], default=str))
    if size_bytes > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            _("A message to %(task)s has %(size)d bytes; at most %(limit)d are sent.")
            % {"task": name, "size": size_bytes, "limit": MAX_MESSAGE_BYTES},
            hint=_("Messages carry ids; content belongs into the storage."),
        )


def send_wake_up(tenant_id: str, run_id: UUID, step: str, *, delay_s: float | None = None) -> None:
    """Tell some worker that a step may be due, after `delay_s` seconds.

    A broker that cannot be reached is logged, not raised: the rows are the truth, and the sweep sends again.
    """
    try:
        app.send_task(EXECUTE_STEP, args=[tenant_id, str(run_id), step], countdown=delay_s, ignore_result=True)
    except OperationalError:
        logger.warning(
            "wake-up not sent, the broker cannot be reached",
            extra={"action": "wake_up.lost", "tenant": tenant_id, "run_id": str(run_id), "step": step},
        )


def drop_wake_ups(tenant_id: str, *, exist: Callable[[Collection[str]], Collection[str]]) -> int | None:
    """Remove the tenant's waiting wake-ups for runs that do not exist; return how many. `exist` picks those that do.

    None where the broker cannot show its queue (only Redis and Valkey can) or does not answer: a wake-up for a run that
    does not exist does nothing anyway.
    """
    with suppress(*UNREACHABLE), _channel() as channel:
        if channel is None:
            return None
        waiting = {raw: run for raw in _waiting(channel) if (run := _run_of(raw, tenant_id)) and is_uuid(run)}
        known = exist(set(waiting.values()))
        return sum(_drop(channel, raw) for raw, run in waiting.items() if run not in known)
    return None


def count_messages(tenant_id: str) -> int | None:
    """Return how many wake-ups of the tenant there are, with workers' included; as `erase_messages` finds them."""
    with _told(), _channel() as channel:
        if channel is None:
            return None
        waiting = [raw for raw in _waiting(channel) if _run_of(raw, tenant_id)]
        return len(waiting) + len(_taken(channel, tenant_id))


def erase_messages(tenant_id: str) -> int | None:
    """Remove every wake-up of the tenant, also those that workers have taken and not answered for; return how many.

    None where the broker does not show any. Raises `BrokerUnavailable`: what it holds then is unknown.
    """
    with _told(), _channel() as channel:
        if channel is None:
            return None
        dropped = sum(_drop(channel, raw) for raw in _waiting(channel) if _run_of(raw, tenant_id))
        taken = _taken(channel, tenant_id)
        for tag in taken:
            # As an answer would; a worker that still holds it finds the tenant closed.
            channel.client.pipeline().zrem(channel.unacked_index_key, tag).hdel(channel.unacked_key, tag).execute()
        return dropped + len(taken)


@contextmanager
def _told() -> Iterator[None]:
    """Turn a broker out of reach into `BrokerUnavailable`."""
    try:
        yield
    except UNREACHABLE as error:
        raise BrokerUnavailable(
            _("The message broker %(address)s cannot be reached.") % {"address": address_of_broker()},
            hint=_("`seo-gen stack status` shows what runs; CELERY_BROKER_URL says where the broker is."),
        ) from error


@contextmanager
def _channel() -> Iterator[Any]:
    """Yield kombu's channel to Redis or Valkey; None where the broker is another, which does not show its queues."""
    with app.connection_for_write(connect_timeout=ANSWER_S) as connection:
        channel = connection.default_channel
        yield channel if hasattr(getattr(channel, "client", None), "lrange") else None


def _waiting(channel: Any) -> list[bytes]:
    found: list[bytes] = channel.client.lrange(app.conf.task_default_queue, 0, -1)
    return found


def _drop(channel: Any, raw: bytes) -> int:
    return int(channel.client.lrem(app.conf.task_default_queue, 0, raw))


def _taken(channel: Any, tenant_id: str) -> list[bytes]:
    """Return the tags of the tenant's messages that workers have taken; the broker may serve other installations."""
    tags = []
    for tag, raw in channel.client.hgetall(channel.unacked_key).items():
        try:
            message, _exchange, queue = json.loads(raw)
        except (ValueError, TypeError, RecursionError):
            continue  # no message, which workers drop
        if queue == app.conf.task_default_queue and _run_of(json.dumps(message).encode(), tenant_id):
            tags.append(tag)
    return tags


def _run_of(raw: bytes, tenant_id: str) -> str | None:
    """Return which of the tenant's runs a message, as Redis holds it, wakes; None where none."""
    try:
        message = json.loads(raw)
        if message["headers"]["task"] != EXECUTE_STEP:
            return None
        message_tenant, run_id, _step = json.loads(base64.b64decode(message["body"]))[0]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return str(run_id) if message_tenant == tenant_id else None


def require_broker() -> None:
    """Raise `BrokerUnavailable` where the broker does not answer."""
    try:
        with app.connection_for_write(connect_timeout=ANSWER_S) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_S)
    except OperationalError as error:
        raise BrokerUnavailable(
            _("The message broker %(address)s cannot be reached, so nothing was started.")
            % {"address": address_of_broker()},
            hint=_("`seo-gen stack status` shows what runs; CELERY_BROKER_URL says where the broker is."),
        ) from error


def require_worker() -> None:
    """Raise `NoWorker` where no worker that takes tasks from our queue answers."""
    require_broker()
    queue = app.conf.task_default_queue
    if not any(_is_listened_to(queue, timeout_s) for timeout_s in WORKER_ANSWERS_S):
        raise NoWorker(
            _("No worker listens on the queue %(queue)s, so nothing was started.") % {"queue": queue},
            hint=_("`seo-gen stack start` starts one; without --wait the run is created and waits for a worker."),
        )


def _is_listened_to(queue: str, timeout_s: float) -> bool:
    answers = app.control.inspect(timeout=timeout_s).active_queues() or {}
    return any(queue == listened["name"] for queues in answers.values() for listened in queues)


def address_of_broker() -> str:
    """Return the broker's address with its password masked."""
    return str(app.connection_for_write().as_uri())
