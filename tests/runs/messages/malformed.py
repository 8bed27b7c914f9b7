"""Messages for tests: well-formed ones, malformed ones of each kind, and random ones."""

from __future__ import annotations

import base64
import json
import pickle
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any
from uuid import uuid4

from runs.messages.format import MAX_ENVELOPE_BYTES, NOTHING_FOLLOWS, TaskMessage, envelope, task_message

JSON = "application/json"
QUEUE = "seo-gen"
NO_PART: tuple[object, ...] = (None, 5, [], True, [{}])
NO_STEP: tuple[object, ...] = ("", "Draft", "a b", "a" * 64, 5, None, {}, "draft\n")


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self._path, "w")


def headers(task: object = "runs.execute_step", **changed: object) -> dict[str, Any]:
    """Return the headers that Celery writes for a task message, with those in `changed` replaced or added."""
    return {
        "lang": "py",
        "task": task,
        "id": str(uuid4()),
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": str(uuid4()),
        "parent_id": None,
        "group": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": True,
        **changed,
    }


def body(*args: object, kwargs: object = None, embedded: object = None) -> str:
    return json.dumps([list(args), kwargs or {}, NOTHING_FOLLOWS if embedded is None else embedded])


def message(text: str | bytes | None = None, **changed: object) -> dict[str, Any]:
    """Return a wake-up as it is stored in Redis; `text` replaces its body, and `changed` any other part."""
    content = body("tenant-a", str(uuid4()), "draft") if text is None else text
    raw = content if isinstance(content, bytes) else content.encode()
    return {
        "body": base64.b64encode(raw).decode(),
        "content-type": JSON,
        "content-encoding": "utf-8",
        "headers": headers(),
        "properties": {
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "seo-gen"},
            "delivery_tag": str(uuid4()),
            "priority": 0,
        },
        **changed,
    }


def read(message: dict[str, Any] | bytes) -> TaskMessage:
    """Return the message as a worker reads it from Redis; raise `MalformedMessage` if the worker would drop it."""
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    checked = json.loads(envelope(raw, QUEUE))
    return task_message(
        checked["headers"],
        base64.b64decode(checked["body"]),
        content_type=checked["content-type"],
        content_encoding=checked["content-encoding"],
    )


def well_formed() -> Iterator[dict[str, Any]]:
    yield message()
    yield message(body(str(uuid4())), headers=headers("tenants.operation_run"))
    for task in (
        *("runs.sweep", "runs.compare_costs", "tenants.audit_anchor", "tenants.backup_daily"),
        "tenants.operations_sweep",
    ):
        yield message(body(), headers=headers(task))


def broken_bytes() -> list[bytes]:
    """Return data that is not a message."""
    good = json.dumps(message()).encode()
    return [
        b"garbage{",
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"17",
        b'"text"',
        b"[]",
        b"{}",
        b"[" * 10_000,
        b"1" * 5_000,
        good[:-7],
        good + b"x" * MAX_ENVELOPE_BYTES,
        b'{"__type__": "bytes", "__value__": 5}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "nothing", "__value__": {}}',
        pickle.dumps({"body": "x"}),
    ]


def broken_envelopes() -> list[dict[str, Any]]:
    """Return objects that are not shaped like a message."""
    whole = message()
    found = [{name: value for name, value in whole.items() if name != left_out} for left_out in whole]
    for part in ("body", "content-type", "content-encoding", "headers", "properties"):
        found += [{**whole, part: value} for value in NO_PART]
    found += [
        {**whole, "body": "%%% no Base64 %%%"},
        {**whole, "body": base64.b64encode(b"\xff\xfe").decode()},
        {**whole, "properties": {**whole["properties"], "body_encoding": "rot13"}},
        {**whole, "properties": {}},
    ]
    return found


def broken_tasks() -> list[dict[str, Any]]:
    """Return messages that have all parts, but contents that the application never sends."""
    run, args = str(uuid4()), ("tenant-a", str(uuid4()), "draft")
    return [
        *[message(headers=value) for value in ({}, {"task": None}, {"id": run})],
        *[message(headers=headers(task)) for task in ("os.system", "celery.chain", "celery.map", "", "runs.sweep\n")],
        *[message(headers=headers(task=value)) for value in (None, 5, True)],
        *[message(headers=headers(id=value)) for value in (None, 5, "", "no-uuid", "{" + run + "}", "../" + run)],
        *[message(headers=headers(eta=value)) for value in (5, "soon", "9999-12-31T23:59:59+00:00", "2026-01-01")],
        *[message(**{"content-type": kind}) for kind in ("application/x-python-serialize", "application/data", "x")],
        *[message(**{"content-encoding": kind}) for kind in ("binary", "utf-16", "rot13")],
        *[message(text) for text in ("", "null", "5", "[]", "{}", "[[], {}]", "[" * 3_000, "[[], {}, {}, {}]")],
        *[message(body(*args[:n])) for n in range(3)],
        message(body(*args, "more")),
        message(body(*args, kwargs={"owner": "me"})),
        message(body(kwargs={"tenant_id": "tenant-a", "run_id": run, "step": "draft"})),
        message(body(*args, embedded={**NOTHING_FOLLOWS, "callbacks": [{"task": "runs.sweep"}]})),
        message(body(*args, embedded=[])),
        message(body("tenant-a"), headers=headers("runs.sweep")),
        message(body("tenant-a"), headers=headers("tenants.backup_daily")),
        *[message(body(value, run, "draft")) for value in ("", "A", "../etc", "a" * 42, 5, None, ["a"], "a\n")],
        *[message(body("tenant-a", value, "draft")) for value in ("", "1", run[:-1], run.replace("-", ""), 5, None)],
        *[message(body("tenant-a", run, value)) for value in NO_STEP],
        message(body(*args) + " " * 5_000),
    ]


def raw_body(message: dict[str, Any]) -> bytes:
    """Return a message's body, decoded from Base64."""
    return base64.b64decode(message["body"])


def unpickled(path: str) -> list[dict[str, Any]]:
    """Return messages with pickles, each of which creates `path` when it is loaded."""
    text = pickle.dumps([Planted(path), {}, NOTHING_FOLLOWS])
    kinds = ("application/x-python-serialize", JSON, "application/data")
    return [message(text, **{"content-type": kind, "content-encoding": "binary"}) for kind in kinds]


VALUES: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        2**70,
        1e308,
        float("inf"),
        "",
        "x",
        "\x00",
        "\ud800",
        "a" * 300,
        [],
        {},
        [[]],
        {"": {}},
    ),
    *({"__type__": "uuid", "__value__": "x"}, {"__type__": "bytes", "__value__": 5}, "runs.sweep", "base64"),
)


def mutated(chance: random.Random) -> bytes:
    """Return a message in which parts at any depth are replaced, removed or duplicated.

    In some messages, a byte is also replaced by up to three others.
    """
    found: Any = chance.choice([message(), message(body(), headers=headers("runs.sweep"))])
    for _ in range(chance.randint(1, 3)):
        found = _changed(found, chance)
    raw = json.dumps(found).encode()
    if chance.random() < 0.3:
        at = chance.randrange(len(raw) or 1)
        raw = raw[:at] + bytes(chance.randrange(256) for _ in range(chance.randint(0, 3))) + raw[at + 1 :]
    return raw


def _changed(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(VALUES)
    value = deepcopy(value)
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    action = chance.random()
    if action < 0.15:
        del value[key]
    elif action < 0.25 and isinstance(value, list):
        value.append(value[key])
    else:
        value[key] = _changed(value[key], chance)
    return value
