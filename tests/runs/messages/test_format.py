"""`runs.messages.format` reads the application's own messages, and rejects everything else."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime
from typing import Any

import pytest
from celery import current_app

from runs.messages import format as message_format
from runs.messages.format import MalformedMessage, envelope
from tests.runs.messages import malformed
from tests.runs.messages.malformed import QUEUE, read

pytestmark = pytest.mark.unit

SEED = os.environ.get("FUZZ_SEED", "11")
# A wake-up delayed by a second, as an earlier release left it in Redis (except for the host's name).
EARLIER = (
    b'{"body": "W1siY29mZmVlIiwgIjY1MmJlZTE1LTEwNDYtNDY5Ny05OTFhLWU2Njk1NDI5YzZmMiIsICJrZXl3b3JkX2FuYWx5c2lzIl'
    b'0sIHt9LCB7ImNhbGxiYWNrcyI6IG51bGwsICJlcnJiYWNrcyI6IG51bGwsICJjaGFpbiI6IG51bGwsICJjaG9yZCI6IG51bGx9XQ==",'
    b' "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": '
    b'"runs.execute_step", "id": "83a716f6-67ae-473a-890b-95154b6036e6", "shadow": null, "eta": '
    b'"2026-11-26T09:23:04.521814+00:00", "expires": null, "group": null, "group_index": null, "retries": 0, '
    b'"timelimit": [null, null], "root_id": "83a716f6-67ae-473a-890b-95154b6036e6", "parent_id": null, '
    b"\"argsrepr\": \"['coffee', '652bee15-1046-4697-991a-e6695429c6f2', 'keyword_analysis']\", \"kwargsrepr\": "
    b'"{}", "origin": "gen17527@host", "ignore_result": null, "replaced_task_nesting": 0, "stamped_headers": '
    b'null, "stamps": {}}, "properties": {"correlation_id": "83a716f6-67ae-473a-890b-95154b6036e6", '
    b'"reply_to": "da362232-6cd6-392d-a378-d58cb5e8de26", "delivery_mode": 2, "delivery_info": {"exchange": '
    b'"", "routing_key": "seo-gen"}, "priority": 0, "body_encoding": "base64", "delivery_tag": '
    b'"ef5ff7e9-9e0a-4f1d-b0fc-bca8b97d5730"}}'
)


def test_what_an_earlier_release_sent_is_understood() -> None:
    found = read(EARLIER)
    assert found.task == "runs.execute_step"
    assert found.args == ("coffee", "652bee15-1046-4697-991a-e6695429c6f2", "keyword_analysis")
    assert found.eta == datetime.fromisoformat("2026-11-26T09:23:04.521814+00:00")


@pytest.mark.parametrize("message", list(malformed.well_formed()))
def test_each_of_our_tasks_is_let_through(message: dict[str, Any]) -> None:
    assert read(message).task == message["headers"]["task"]


@pytest.mark.parametrize("raw", malformed.broken_bytes())
def test_a_malformed_message_is_rejected(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        envelope(raw, QUEUE)


@pytest.mark.parametrize("message", malformed.broken_envelopes())
def test_a_message_of_another_shape_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        read(message)


@pytest.mark.parametrize("message", malformed.broken_tasks())
def test_an_unknown_task_is_rejected(message: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        read(message)


def test_every_task_has_a_format_and_every_format_a_task() -> None:
    current_app.loader.import_default_modules()
    ours = {name for name in current_app.tasks if not name.startswith("celery.")}
    assert ours == set(message_format._ARGUMENTS)


def test_a_refusal_repeats_nothing_of_the_message() -> None:
    for message in (malformed.message(malformed.body("CANARY", "CANARY", "CANARY")), {"CANARY": "CANARY"}):
        with pytest.raises(MalformedMessage) as refusal:
            read(message)
        assert "CANARY" not in str(refusal.value)


def test_options_of_the_sender_have_no_effect() -> None:
    options: dict[str, Any] = {
        "timelimit": [0.001, 0.001],
        "retries": 99,
        "expires": "2000-01-01T00:00:00+00:00",
        "shadow": "os.system",
        "argsrepr": "CANARY",
        "compression": "zlib",
        "stamped_headers": ["x"],
    }
    found = read(malformed.message(headers=malformed.headers(**options)))
    assert found.headers["timelimit"] == [None, None] and "CANARY" not in str(found.headers)
    assert {name: found.headers[name] for name in ("retries", "expires", "shadow")} == {
        "retries": 0,
        "expires": None,
        "shadow": None,
    }
    assert not {"compression", "stamped_headers"} & set(found.headers)


def test_where_a_message_goes_back_to_and_its_tag_are_ours() -> None:
    properties = {
        "body_encoding": "base64",
        "delivery_tag": "of-another",
        "delivery_info": {"exchange": "other", "routing_key": "other"},
        "reply_to": "somebody",
    }
    kept = json.loads(envelope(json.dumps(malformed.message(properties=properties)).encode(), QUEUE))["properties"]
    assert kept["delivery_info"] == {"exchange": "", "routing_key": QUEUE}
    assert kept["delivery_tag"] != "of-another" and "reply_to" not in kept


def test_any_input_is_a_known_task_or_rejected() -> None:
    chance = random.Random(SEED)
    refused = 0
    for number in range(5_000):
        raw = malformed.mutated(chance)
        try:
            found = read(raw)
        except MalformedMessage:
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {SEED}, message {number}: {raw!r}") from error
        else:
            assert json.loads(found.body)[1:] == [
                {},
                {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
            ]
    assert refused > 2_000
