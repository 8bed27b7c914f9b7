"""A worker's connection to Valkey that breaks while messages are unacknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from config import stack
from config.queue import broker
from config.stack import process
from config.stack.process import wait_until
from config.stack.state import load_state
from tests.support.environment import NO_LLM

QUEUE = Queue("lost")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stack.Home]:
    """A home whose Valkey may be killed."""
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL"):
        monkeypatch.setenv(name, "postgresql://127.0.0.1:9/none")
    monkeypatch.setenv("LOCAL_LLM_URL", NO_LLM)
    for name in ("CELERY_BROKER_URL", "CACHE_URL"):
        monkeypatch.delenv(name, raising=False)
    found = stack.find_home(tmp_path)
    stack.ensure_started(found)
    yield found
    stack.stop(found)


def kill(home: stack.Home) -> None:
    record = load_state(home).services["valkey"].process
    found = process.alive(record)
    assert found is not None
    found.kill()
    assert wait_until(lambda: process.gone(found), 30)


def test_a_connection_that_broke_closes_and_a_late_acknowledgement_does_nothing(home: stack.Home) -> None:
    broker.register()
    connection = Connection(stack.settings_from_stack(home)["CELERY_BROKER_URL"])
    taken: list[Any] = []
    connection.Producer().publish({"n": 1}, routing_key=QUEUE.name, declare=[QUEUE])
    Consumer(connection, [QUEUE], on_message=taken.append).consume()
    connection.drain_events(timeout=5)
    # As in a worker, which waits for the next message meanwhile.
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.05)
    kill(home)
    # What Celery does once it has lost the broker.
    with suppress(Exception):
        connection.collect(socket_timeout=1)
    connection.close()
    taken[0].ack()
