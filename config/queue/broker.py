"""The broker as we use it: kombu's transports, which survive whatever others put there.

kombu trusts what it takes from a queue of Redis's or Valkey's, and a worker ends where that is not what it expects.
Here it is looked at first (`runs.messages.format`): what is no message is dropped, with one line in the log. RabbitMQ
keeps the parts of a message apart by itself; what they say is for `config.queue.worker` to check, with every broker.
(The stubs of kombu leave out half of what this builds on; the tests run it with the pinned version.)
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, pyamqp, redis
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError

from runs.messages.format import MAX_ENVELOPE_BYTES, MalformedMessage, envelope

logger = logging.getLogger(__name__)

# Answers of workers to `celery inspect`, which list what they work on.
REPLY_QUEUE = ".pidbox"
MAX_REPLY_BYTES = 1_000_000
BROADCAST = "broadcast"
KEPT_IS_NONE = "it was kept until it is answered for, and is none"


def register() -> None:
    """Have the brokers' URLs lead to these transports, in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "config.queue.broker:Transport"))
    TRANSPORT_ALIASES.update(dict.fromkeys(("amqp", "pyamqp"), "config.queue.broker:AMQPTransport"))
    TRANSPORT_ALIASES.update(amqps="config.queue.broker:AMQPSTransport")


def log_dropped(reason: object, queue: str, size_bytes: int | None = None) -> None:
    """Say that a message was dropped and why, and nothing of what is in it: it is a stranger's."""
    logger.warning(
        "malformed message dropped: %s",
        reason,
        extra={"action": "message.drop", "queue": queue, "size_bytes": size_bytes},
    )


class QoS(redis.QoS):
    """Keeps messages that are not answered for, and brings them back when that takes too long."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Bring a message back; drop what is none, which would otherwise keep all others from coming back, for ever."""
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except (RedisError, OSError):
            raise
        except Exception:
            self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]
            log_dropped(KEPT_IS_NONE, self.channel.unacked_key)  # type: ignore[attr-defined]


class Channel(redis.Channel):
    """Takes from queues and broadcasts only what has the form of a message."""

    QoS = QoS

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous=asynchronous)  # type: ignore[misc]
        # The one command by which queues are read. Where its reply is None, the time to wait is over for kombu.
        client.set_response_callback("BRPOP", _well_formed)
        return client

    def _handle_message(self, client: Any, r: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._handle_message(client, r)  # type: ignore[misc]
        if bytes_to_str(found["type"]).endswith("message"):
            found["data"] = _well_formed_broadcast(found["data"])
        return found

    def _do_restore_message(
        self, payload: Any, exchange: Any, routing_key: Any, pipe: Any, leftmost: bool = False
    ) -> None:
        if isinstance(payload, dict) and isinstance(exchange, str) and isinstance(routing_key, str):
            super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)  # type: ignore[misc]
        else:
            log_dropped(KEPT_IS_NONE, self.unacked_key)


class Transport(redis.Transport):
    """For `redis://` and `rediss://`."""

    Channel = Channel


class AMQPChannel(pyamqp.Channel):
    """Unpacks nothing: a few bytes may unpack to gigabytes, and nothing of ours is compressed."""

    def message_to_python(self, raw_message: Any) -> Any:
        raw_message.properties.get("application_headers", {}).pop("compression", None)
        return super().message_to_python(raw_message)


class AMQPConnection(pyamqp.Connection):
    Channel = AMQPChannel


class AMQPTransport(pyamqp.Transport):
    """For `amqp://`."""

    Connection = AMQPConnection


class AMQPSTransport(pyamqp.SSLTransport):
    """For `amqps://`."""

    Connection = AMQPConnection


def _well_formed(reply: Any, **_options: Any) -> tuple[bytes, bytes] | None:
    """Return (queue, message) of a BRPOP; None where there was none, or what there was is dropped."""
    if not reply:
        return None
    key, raw = reply
    queue = key.decode(errors="replace").partition(Channel.sep)[0]
    try:
        return key, envelope(
            raw, queue, max_bytes=MAX_REPLY_BYTES if queue.endswith(REPLY_QUEUE) else MAX_ENVELOPE_BYTES
        )
    except MalformedMessage as error:
        log_dropped(error, queue, len(raw))
        return None


def _well_formed_broadcast(raw: Any) -> bytes:
    """Return the message; b"", which kombu skips, where it is none."""
    try:
        return envelope(raw, "", max_bytes=MAX_REPLY_BYTES)
    except MalformedMessage as error:
        log_dropped(error, BROADCAST, len(raw))
        return b""
