"""A real worker, and a broker with foreign messages: the worker drops them and does its work."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import current_app
from django.conf import settings

from runs.models import Run, RunStatus
from tenants.models import Tenant
from tests.runs.driving import reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.messages import malformed
from tests.runs.worker import Watched, kill, wait_for

SEED = os.environ.get("FUZZ_SEED", "11")
DROPPED = "malformed message dropped"
BROADCASTS = "/0.celery.pidbox"

MakeRun = Callable[..., Run]


# The worker's loop differs: with processes it waits for sockets, with threads it drains one connection.
@pytest.fixture(
    params=[("--pool", "prefork", "--concurrency", "2"), ("--pool", "threads", "--concurrency", "4")],
    ids=["prefork", "threads"],
)
def watched(request: pytest.FixtureRequest, tmp_path: Path, fake_llm: FakeLLM) -> Iterator[Watched]:
    worker = Watched(tmp_path, *request.param)
    yield worker
    kill(worker.process)


@pytest.fixture
def valkey() -> Iterator[Any]:
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        # Messages held by a worker that an earlier test killed.
        client.delete("unacked", "unacked_index")
        yield client


def push(valkey: Any, raws: Sequence[bytes]) -> None:
    valkey.lpush(current_app.conf.task_default_queue, *raws)


def raw(messages: Sequence[object]) -> list[bytes]:
    return [json.dumps(message).encode() for message in messages]


def assert_works(watched: Watched, valkey: Any, tenant: Tenant, make_run: MakeRun) -> None:
    """Check that the worker lives, completes a run, acknowledges all messages, and logs no traceback or CRITICAL."""
    run = make_run(tenant, steps=("keyword_analysis",))
    wait_for(lambda: reload(tenant, run).status == RunStatus.COMPLETED or watched.process.poll() is not None)
    assert watched.process.poll() is None, watched.log
    assert reload(tenant, run).status == RunStatus.COMPLETED
    wait_for(lambda: not valkey.exists("unacked", "unacked_index", current_app.conf.task_default_queue))
    assert "Traceback" not in watched.log and "CRITICAL" not in watched.log, watched.log


def test_each_kind_is_dropped_with_one_line(
    watched: Watched, valkey: Any, tenant: Tenant, make_run: MakeRun, tmp_path: Path
) -> None:
    planted = tmp_path / "executed"
    messages = [
        *malformed.broken_bytes(),
        *raw([*malformed.broken_envelopes(), *malformed.broken_tasks(), *malformed.unpickled(str(planted))]),
    ]
    push(valkey, messages)
    assert_works(watched, valkey, tenant, make_run)
    assert sum(DROPPED in line for line in watched.lines) == len(messages)
    assert not planted.exists()


def test_a_fuzzed_queue_ends_no_worker(watched: Watched, valkey: Any, tenant: Tenant, make_run: MakeRun) -> None:
    chance = random.Random(SEED)
    queue = current_app.conf.task_default_queue
    keys = [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]
    for _ in range(1_000):
        valkey.lpush(chance.choice(keys), malformed.mutated(chance))
    wait_for(lambda: not valkey.exists(*keys) or watched.process.poll() is not None)
    assert_works(watched, valkey, tenant, make_run)


def test_broadcasts_are_questions_or_nothing(watched: Watched, valkey: Any, tenant: Tenant, make_run: MakeRun) -> None:
    chance = random.Random(SEED)
    bodies: list[object] = [None, 5, [], {}, {"method": 5}, {"method": "ping", "destination": 5}]
    commands: tuple[str, ...] = (
        "shutdown",
        "pool_restart",
        "revoke",
        "terminate",
        "cancel_consumer",
        "rate_limit",
        "conf",
    )
    bodies += [{"method": name, "arguments": {}} for name in commands]
    bodies += [{"method": "cancel_consumer", "arguments": {"queue": current_app.conf.task_default_queue}}]
    for content in [*malformed.broken_bytes(), *raw(malformed.broken_envelopes())]:
        valkey.publish(BROADCASTS, content)
    for body in bodies:
        valkey.publish(BROADCASTS, json.dumps(malformed.message(json.dumps(body), headers={"clock": "x"})))
    for _ in range(300):
        valkey.publish(BROADCASTS, malformed.mutated(chance))
    assert_works(watched, valkey, tenant, make_run)
    answers = current_app.control.inspect(timeout=5, limit=1).active_queues() or {}
    assert [name.split("@")[0] for name in answers] == ["fuzzed"]
    # As Celery itself sends it.
    current_app.control.shutdown()
    assert_works(watched, valkey, tenant, make_run)


def test_a_malformed_unacknowledged_message_does_not_block_restoring_others(
    valkey: Any, tenant: Tenant, make_run: MakeRun
) -> None:
    """Unacknowledged messages come back after a while, the newest first; here all but the oldest are garbage."""
    run = make_run(tenant)
    queue = current_app.conf.task_default_queue
    lost = json.dumps([json.loads(valkey.rpop(queue)), "", queue])
    kept = {
        "lost": lost.encode(),
        **{f"garbage-{number}": content for number, content in enumerate(malformed.broken_bytes())},
        "no-list": b'{"a": 1}',
        "other-list": b'[{}, "x"]',
        "no-message": b'[5, "", "seo-gen"]',
    }
    for number, (tag, content) in enumerate(kept.items()):
        valkey.hset("unacked", tag, content)
        valkey.zadd("unacked_index", {tag: number + 1})
    valkey.zadd("unacked_index", {"not-kept": 1000})
    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        channel.qos.restore_visible(num=len(kept) + 1, interval=1)
    assert not valkey.exists("unacked", "unacked_index")
    [back] = [json.loads(one) for one in valkey.lrange(queue, 0, -1)]
    assert str(run.pk) in str(back["headers"]["argsrepr"])
