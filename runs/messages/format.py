"""Validate messages: a worker acts only on tasks that this application sends, with well-formed ids.

Anyone who can write to the broker can put anything into the queue. Celery trusts messages, and an unexpected one can
end the worker, so invalid messages are rejected here, before Celery parses them. Valid ones are rebuilt from the parts
that were checked, so no other header or option of the sender has any effect.

`config.queue.broker` and `config.queue.worker` call these functions.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from config.base.text import has_control_characters
from prompts.types import NAME_PATTERN
from runs.messages.task_names import COMPARE_COSTS, EXECUTE_STEP, SWEEP
from tenants.naming import ID_PATTERN
from tenants.task_names import AUDIT_ANCHOR, BACKUP_DAILY, OPERATION_RUN, OPERATIONS_SWEEP

# A wake-up takes about 500 bytes with its headers; a prompt or an output does not fit.
MAX_MESSAGE_BYTES = 4096
# As stored in the broker: with headers and properties, the body in Base64.
MAX_ENVELOPE_BYTES = 4 * MAX_MESSAGE_BYTES
# No task is due later than the longest delay that a provider may ask for; clocks may differ by an hour.
LATEST = timedelta(days=1, hours=1)
# The header with the step's route. Workers of earlier releases ignore it.
ROUTE = "route"
MAX_ROUTE_CHARS = 300
# Celery's options for follow-up tasks, all unused.
NOTHING_FOLLOWS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class MalformedMessage(Exception):
    """The message is not one that this application sends. The error says why, without quoting the message."""


@dataclass(frozen=True)
class TaskMessage:
    """A task that a worker is asked to run."""

    task: str
    task_id: str
    args: tuple[str, ...]
    # Run no earlier than this; None: immediately.
    eta: datetime | None = None
    # "provider/model" of the step to execute. None: the message comes from a release that did not send it.
    route: str | None = None

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of Celery's message protocol 2."""
        return {
            "lang": "py",
            "task": self.task,
            "id": self.task_id,
            "root_id": self.task_id,
            "parent_id": None,
            "group": None,
            "shadow": None,
            "eta": self.eta.isoformat() if self.eta else None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": repr(self.args),
            "kwargsrepr": "{}",
            "origin": "",
            "ignore_result": True,
            **({ROUTE: self.route} if self.route else {}),
        }

    @property
    def body(self) -> str:
        return json.dumps([list(self.args), {}, NOTHING_FOLLOWS])


# -- tasks ---------------------------------------------------------------------------------------------------------


def task_message(headers: object, body: str | bytes, *, content_type: object, content_encoding: object) -> TaskMessage:
    """Return the task that the message asks for, or raise `MalformedMessage`."""
    if (content_type, content_encoding) != ("application/json", "utf-8"):
        raise MalformedMessage("its content is not JSON")
    if len(body) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"its body is longer than {MAX_MESSAGE_BYTES} bytes")
    found = _mapping(headers, "headers")
    task = found.get("task")
    check = _ARGUMENTS.get(task) if isinstance(task, str) else None
    if not isinstance(task, str) or check is None:
        raise MalformedMessage("its task is unknown")
    if not isinstance(found.get("id"), str) or not is_uuid(found["id"]):
        raise MalformedMessage("its id is not a UUID")
    return TaskMessage(task, found["id"], check(_arguments(body)), _eta(found.get("eta")), _route(found.get(ROUTE)))


def _arguments(body: str | bytes) -> list[object]:
    """Return a task's positional arguments; reject keyword arguments and follow-up tasks."""
    parsed = _json(body, "body")
    if not isinstance(parsed, list) or len(parsed) != 3:
        raise MalformedMessage("its body does not have the form of a task")
    args, kwargs, embedded = parsed
    if not isinstance(args, list) or kwargs != {}:
        raise MalformedMessage("its arguments are malformed")
    if not isinstance(embedded, dict) or any(value is not None for value in embedded.values()):
        raise MalformedMessage("it has follow-up tasks")
    return args


def _step(args: list[object]) -> tuple[str, ...]:
    match args:
        case [str(tenant_id), str(run_id), str(step)]:
            well_formed = re.fullmatch(ID_PATTERN, tenant_id) and is_uuid(run_id) and re.fullmatch(NAME_PATTERN, step)
            if well_formed:
                return tenant_id, run_id, step
            raise MalformedMessage("its ids are not well-formed")
    raise MalformedMessage("its arguments are not a tenant, a run and a step")


def _operation(args: list[object]) -> tuple[str, ...]:
    match args:
        case [str(operation_id)] if is_uuid(operation_id):
            return (operation_id,)
    raise MalformedMessage("its argument is not the id of an operation")


def _none(args: list[object]) -> tuple[str, ...]:
    if args:
        raise MalformedMessage("its task takes no arguments")
    return ()


_ARGUMENTS: Mapping[str, Callable[[list[object]], tuple[str, ...]]] = {
    EXECUTE_STEP: _step,
    SWEEP: _none,
    COMPARE_COSTS: _none,
    BACKUP_DAILY: _none,
    AUDIT_ANCHOR: _none,
    OPERATION_RUN: _operation,
    OPERATIONS_SWEEP: _none,
}


def _route(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_ROUTE_CHARS or "/" not in value or has_control_characters(value):
        raise MalformedMessage("its route is not a provider and a model")
    return value


def _eta(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        eta = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        eta = None
    if eta is None or eta.tzinfo is None:
        raise MalformedMessage("its time is invalid")
    try:
        # Converted here, because Celery accepts times that cannot be converted.
        eta = eta.astimezone(UTC)
    except (OverflowError, ValueError):
        raise MalformedMessage("its time is invalid") from None
    if eta > datetime.now(UTC) + LATEST:
        raise MalformedMessage("its time is too far in the future")
    return eta


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID in canonical form; `UUID` also accepts capitals, braces and missing dashes."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


# -- envelopes -----------------------------------------------------------------------------------------------------


def envelope(raw: bytes, queue: str, *, max_bytes: int = MAX_ENVELOPE_BYTES) -> bytes:
    """Rebuild a message as kombu stores it in Redis or Valkey, from the parts of `raw` that are safe to read.

    kombu takes the body's encoding, the delivery tag, and the queue to which it returns an unacknowledged message from
    the message's properties, so these are set here and never copied from `raw`. Raises `MalformedMessage`.
    """
    if len(raw) > max_bytes:
        raise MalformedMessage(f"it is longer than {max_bytes} bytes")
    found = _mapping(_json(raw, "message"), "message")
    properties = _mapping(found.get("properties"), "properties")
    # Only plain values: kombu would decode an object into whatever type it claims to be.
    headers = {name: value for name, value in _mapping(found.get("headers"), "headers").items() if _is_plain(value)}
    # A few compressed bytes may unpack to gigabytes; the application never compresses.
    headers.pop("compression", None)
    if properties.get("body_encoding") != "base64" or not isinstance(found.get("body"), str):
        raise MalformedMessage("its body is not Base64")
    try:
        base64.b64decode(found["body"], validate=True).decode()
    except ValueError:
        raise MalformedMessage("its body is not Base64") from None
    checked = {
        "body": found["body"],
        "content-type": _text(found.get("content-type")),
        "content-encoding": _text(found.get("content-encoding")),
        "headers": headers,
        "properties": {
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid4()),
            "priority": 0,
        },
    }
    return json.dumps(checked).encode()


def _json(text: str | bytes, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage(f"its {what} is not JSON" if what != "message" else "it is not JSON") from None


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedMessage(f"its {what} are not an object" if what != "message" else "it is not an object")
    return value


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedMessage("its content type is not text")
    return value
