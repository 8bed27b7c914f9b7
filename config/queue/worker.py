"""Restrict Celery's worker to this application's tasks and to questions about its state.

Enabled by the setting `worker_consumer`, for every broker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import consumer
from celery.worker.consumer.control import Control

from config.queue import preload as preload  # receivers of signals, as the next two
from config.queue import presence as presence
from config.queue import stopping as stopping
from config.queue.broker import BROADCAST, log_dropped
from runs.messages.format import MalformedMessage, task_message

logger = logging.getLogger(__name__)

# The remote control commands that a worker answers. With the others, anyone who can write to the broker could stop it,
# empty its queue or revoke its tasks; use signals for that, which require an account on the machine.
QUESTIONS = {"ping", "active_queues", "active", "reserved", "scheduled", "registered", "stats"}
OWN_CONTROL = "config.queue.worker:Questions"


class Consumer(consumer.Consumer):
    """Takes well-formed tasks from the queue and drops the rest."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc,valid-type]
        default_steps = [
            OWN_CONTROL if step.endswith("control:Control") else step
            for step in consumer.Consumer.Blueprint.default_steps
        ]

    def __init__(self, *args: Any, **options: Any) -> None:
        # Through these, workers exchange clocks, revoked tasks and elections, which are not needed here.
        super().__init__(*args, **{**options, "without_mingle": True, "without_gossip": True})

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **options)

        def handle_well_formed(message: Any) -> None:
            try:
                _rewrite(message)
            except MalformedMessage as error:
                self._drop(message, error)
            else:
                handle(message)

        return handle_well_formed

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._drop(message, f"its content cannot be read ({type(exc).__name__})")

    def _drop(self, message: Any, reason: object) -> None:
        log_dropped(reason, _queue_of(message), len(message.body or ""))
        message.reject_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]


class Questions(Control):
    """Celery's remote control, reduced to questions."""

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        box: Any = self.box  # type: ignore[attr-defined]
        answer = box.on_message

        def answer_questions(body: object, message: Any) -> None:
            try:
                checked = _question(body)
            except MalformedMessage as error:
                log_dropped(error, BROADCAST)
            else:
                message.headers = {}
                answer(checked, message)

        box.on_message = answer_questions


def _question(body: object) -> dict[str, Any]:
    """Return the question in the form that Celery's mailbox expects; raise `MalformedMessage` if `body` is not one."""
    found: dict[str, Any] = {"arguments": {}, "destination": None, "reply_to": None, "ticket": None}
    match body:
        case {"method": str(method)} if method in QUESTIONS:
            found["method"] = method
        case _:
            raise MalformedMessage("it is not a question that a worker answers")
    match body:
        case {"destination": [*names]} if all(isinstance(name, str) for name in names):
            found["destination"] = names
    match body:
        case {"reply_to": {"exchange": str(exchange), "routing_key": str(key)}, "ticket": str(ticket)}:
            found.update(reply_to={"exchange": exchange, "routing_key": key}, ticket=ticket)
    return found


def _rewrite(message: Any) -> None:
    """Rebuild the message from the parts that `task_message` checked; drop the rest. Raises `MalformedMessage`."""
    checked = task_message(
        message.headers,
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
    )
    message.headers, message.body = checked.headers, checked.body
    message.properties = {}


def _queue_of(message: Any) -> str:
    info = message.delivery_info or {}
    return str(info.get("routing_key", ""))
