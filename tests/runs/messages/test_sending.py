"""Messages are small wake-ups, which contain ids and names of steps, but no content."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from runs.errors import MessageTooLarge, NoWorker
from runs.messages import sending
from runs.messages.format import MAX_MESSAGE_BYTES
from runs.messages.sending import (
    _countdown,
    count_messages,
    drop_wake_ups,
    erase_messages,
    require_broker,
    require_worker,
    send_wake_up,
)
from runs.messages.size_guard import GuardedAMQP
from tests.runs.driving import messages_sent
from tests.runs.messages.malformed import body, broken_bytes, broken_envelopes, broken_tasks, message, read


def test_the_application_sends_through_the_guard() -> None:
    assert isinstance(current_app.amqp, GuardedAMQP)


def test_what_we_send_is_let_through() -> None:
    run = uuid4()
    send_wake_up("tenant-a", run, "draft", delay_s=300)
    tasks = ["runs.sweep", "runs.compare_costs", "tenants.audit_anchor", "tenants.backup_daily"]
    for task in tasks:
        current_app.send_task(task)
    with current_app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        waiting = channel.client.lrange(current_app.conf.task_default_queue, 0, -1)
    wake_up, *others = (read(raw) for raw in reversed(waiting))
    assert (wake_up.task, wake_up.args) == ("runs.execute_step", ("tenant-a", str(run), "draft"))
    assert wake_up.eta is not None and wake_up.eta - datetime.now(UTC) > timedelta(seconds=200)
    assert [one.task for one in others] == tasks
    assert all((one.args, one.eta) == ((), None) for one in others)


def test_a_message_with_content_is_refused_and_not_sent() -> None:
    refusal = r"A message for runs\.execute_step is \d+ bytes long; the limit is 4096\."
    with pytest.raises(MessageTooLarge, match=refusal):
        current_app.send_task("runs.execute_step", args=["tenant", "run", "x" * MAX_MESSAGE_BYTES])
    assert messages_sent() == []


@pytest.mark.parametrize("options", [{"kwargs": {"text": "x" * 5000}}, {"headers": {"text": "x" * 5000}}])
def test_no_other_part_of_a_message_may_be_large_either(options: dict[str, Any]) -> None:
    with pytest.raises(MessageTooLarge):
        current_app.send_task("runs.sweep", **options)
    assert messages_sent() == []


def test_a_wake_up_is_sent() -> None:
    current_app.send_task("runs.execute_step", args=["tenant", "run", "draft"])
    assert messages_sent() == [("tenant", "run", "draft")]


@pytest.mark.parametrize(
    ("kind", "delay_s", "asked_s"),
    [
        ("classic", 0.3, 0.3),
        ("classic", None, None),
        ("quorum", 0.3, 1.0),
        ("quorum", 2.5, 2.5),
        ("quorum", None, None),
    ],
)
def test_a_quorum_queue_delays_by_a_second_at_least(
    kind: str, delay_s: float | None, asked_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery raises an error for a shorter delay."""
    monkeypatch.setitem(current_app.conf, "task_default_queue_type", kind)
    assert _countdown(delay_s) == asked_s


def test_without_a_worker_waiting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "WORKER_ANSWERS_S", (0.1, 0.4))
    require_broker()
    with pytest.raises(NoWorker, match="No worker on the queue seo-gen answered, so the run was not started"):
        require_worker()


def test_the_brokers_failure_is_what_we_translate() -> None:
    with pytest.raises(OperationalError), current_app.connection_for_write("redis://127.0.0.1:9/0") as connection:
        connection.ensure_connection(max_retries=1, timeout=1)


@pytest.mark.parametrize("scheme", ["redis", "amqp", "amqps"])
def test_a_brokers_address_leads_to_our_transport(scheme: str) -> None:
    with current_app.connection_for_write(f"{scheme}://127.0.0.1:9//") as connection:
        assert connection.get_transport_cls().__module__ == "config.queue.broker"


def test_garbage_in_the_queue_does_not_prevent_erasing_or_dropping_wake_ups() -> None:
    run = uuid4()
    send_wake_up("tenant-garbage", run, "draft")
    queue = current_app.conf.task_default_queue
    garbage = [*broken_bytes(), *(json.dumps(one).encode() for one in [*broken_envelopes(), *broken_tasks()])]
    ill = json.dumps(message(body("tenant-garbage", "no-uuid", "draft"))).encode()
    with current_app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        client = channel.client
        client.lpush(queue, *garbage, ill)
        client.hset("unacked", mapping={str(number): content for number, content in enumerate(garbage)})
        try:
            asked: list[Collection[str]] = []

            def all_exist(runs: Collection[str]) -> Collection[str]:
                asked.append(runs)
                return runs

            assert drop_wake_ups("tenant-garbage", exist=all_exist) == 0
            assert asked == [{str(run)}]
            assert count_messages("tenant-garbage") == 2
            assert erase_messages("tenant-garbage") == 2
            assert client.llen(queue) == len(garbage)
        finally:
            client.delete("unacked")
