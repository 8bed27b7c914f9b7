"""A worker drops foreign messages that come through RabbitMQ, where a message's properties are separate from its body.

The server is the one at EXTERNAL_AMQP_URL, or the one on port 5672 of this machine.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from kombu.compression import compress

from runs.models import Run, RunStatus
from tenants.models import Tenant
from tests.runs.driving import reload
from tests.runs.messages import malformed
from tests.runs.messages.malformed import JSON, body, headers
from tests.runs.worker import Watched, kill, wait_for

URL = os.environ.get("EXTERNAL_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")

pytestmark = pytest.mark.external


@pytest.fixture
def rabbitmq() -> Iterator[Connection]:
    with Connection(URL) as connection:
        yield connection


@pytest.fixture
def queue(rabbitmq: Connection) -> Iterator[str]:
    name = f"seo-gen-test-{uuid.uuid4().hex[:12]}"
    channel: Any = rabbitmq.default_channel
    channel.queue_declare(name, durable=True, auto_delete=False)
    yield name
    channel.queue_delete(name)


def test_foreign_messages_are_dropped_and_a_run_completes(
    rabbitmq: Connection, queue: str, tenant: Tenant, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run, planted = make_run(tenant, steps=("keyword_analysis",)), tmp_path / "executed"
    args = (tenant.id, str(run.pk), "keyword_analysis")
    packed, how = compress(body(*args), "zlib")
    parts: list[tuple[Any, dict[str, Any]]] = [
        ("garbage{", {"content_type": JSON, "content_encoding": "utf-8"}),
        (b"\xff\xfe", {"content_type": JSON, "content_encoding": "utf-8", "headers": headers()}),
        (b"", {}),
        (packed, {"content_type": JSON, "content_encoding": "utf-8", "headers": headers(compression=how)}),
    ]
    for message in [*malformed.broken_tasks(), *malformed.unpickled(str(planted))]:
        raw = malformed.raw_body(message)
        kind, encoding = message["content-type"], message["content-encoding"]
        parts.append((raw, {"content_type": kind, "content_encoding": encoding, "headers": message["headers"]}))
    channel: Any = rabbitmq.default_channel
    for content, properties in parts:
        channel.basic_publish(channel.prepare_message(content, **properties), exchange="", routing_key=queue)
    worker = Watched(tmp_path, "--concurrency", "2", CELERY_BROKER_URL=URL, CELERY_QUEUE=queue)
    try:
        good = channel.prepare_message(body(*args), content_type=JSON, content_encoding="utf-8", headers=headers())
        channel.basic_publish(good, exchange="", routing_key=queue)
        wait_for(lambda: reload(tenant, run).status == RunStatus.COMPLETED or worker.process.poll() is not None)
        assert worker.process.poll() is None, worker.log
        wait_for(lambda: channel.queue_declare(queue, passive=True).message_count == 0)
        assert sum("malformed message dropped" in line for line in worker.lines) == len(parts)
        assert "Traceback" not in worker.log and not planted.exists()
    finally:
        kill(worker.process)
