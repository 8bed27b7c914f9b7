"""Refuse task messages that are too large to contain only ids.

Celery swallows errors from `before_task_publish` receivers (`celery.utils.dispatch.signal.Signal.send`). So the guard
sits where every task message passes: the application is created with `Celery(…, amqp=GuardedAMQP)`.
"""

import json
from collections.abc import Callable
from typing import Any

from celery.app.amqp import AMQP
from django.utils.translation import gettext as _

from runs.errors import MessageTooLarge
from runs.messages.format import MAX_MESSAGE_BYTES


class GuardedAMQP(AMQP):
    """Refuses to send a task message larger than `MAX_MESSAGE_BYTES`."""

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()  # type: ignore[misc]  # missing from celery-types

        def send_small(producer: Any, name: str, message: Any, **options: Any) -> Any:
            refuse_large(name, message, options.get("headers"))
            return send(producer, name, message, **options)

        return send_small


def refuse_large(name: str, message: Any, more_headers: Any = None) -> None:
    """Raise `MessageTooLarge` if the headers and the body of a Celery `task_message` together exceed the limit."""
    size_bytes = len(json.dumps([message.headers, more_headers, message.body], default=str))
    if size_bytes > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            _("A message for %(task)s is %(size)d bytes long; the limit is %(limit)d.")
            % {"task": name, "size": size_bytes, "limit": MAX_MESSAGE_BYTES},
            hint=_("Send only ids in messages, and put content in storage."),
        )
