"""kombu's transports, changed so that they survive anything that others put into the broker.

kombu trusts the content of a Redis or Valkey queue, and a worker exits if it finds something unexpected. These
transports check each message first (`runs.messages.format`) and drop malformed ones with one line in the log. RabbitMQ
itself keeps the parts of a message separate; `config.queue.worker` checks their content, for every broker.
(kombu's stubs lack half of what this uses; the tests run it with the pinned version.)
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from amqp.exceptions import RecoverableConnectionError
from kombu.transport import TRANSPORT_ALIASES, pyamqp, redis
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError

from runs.messages.format import MAX_ENVELOPE_BYTES, MalformedMessage, envelope

logger = logging.getLogger(__name__)

# Workers' replies to `celery inspect`, which list their tasks.
REPLY_QUEUE = ".pidbox"
MAX_REPLY_BYTES = 1_000_000
BROADCAST = "broadcast"
UNACKED_MALFORMED = "it was stored as unacknowledged, and is malformed"


def register() -> None:
    """Make broker URLs use these transports in this process."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "config.queue.broker:Transport"))
    TRANSPORT_ALIASES.update(dict.fromkeys(("amqp", "pyamqp"), "config.queue.broker:AMQPTransport"))
    TRANSPORT_ALIASES.update(amqps="config.queue.broker:AMQPSTransport")


def log_dropped(reason: object, queue: str, size_bytes: int | None = None) -> None:
    """Log that a message was dropped and why, without its content, which anyone may have written."""
    logger.warning(
        "malformed message dropped: %s",
        reason,
        extra={"action": "message.drop", "queue": queue, "size_bytes": size_bytes},
    )


def log_unacknowledged(error: Exception) -> None:
    """Log that a message was not acknowledged because the broker failed. It is delivered again, which is harmless."""
    extra = {"action": "message.ack", "error": type(error).__name__}
    logger.info("message not acknowledged, the broker failed", extra=extra)


class QoS(redis.QoS):
    """kombu's record of unacknowledged messages; it survives a lost connection and malformed entries."""

    def restore_unacked(self, client: Any = None) -> None:
        """Restore the unacknowledged messages of a channel that closes.

        If the connection is lost, they are restored after the visibility timeout.
        """
        with suppress(RedisError, OSError):
            super().restore_unacked(client=client)
        self._delivered.clear()  # type: ignore[union-attr]

    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)
        except (RedisError, OSError) as error:
            log_unacknowledged(error)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Restore a message; drop a malformed one, which would otherwise keep others from ever being restored."""
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except (RedisError, OSError):
            raise
        except Exception:
            self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]
            log_dropped(UNACKED_MALFORMED, self.channel.unacked_key)  # type: ignore[attr-defined]


class Channel(redis.Channel):
    """Accepts only well-formed messages from queues and broadcasts."""

    QoS = QoS

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous=asynchronous)  # type: ignore[misc]
        # kombu reads queues only with this command, and takes a reply of None for a timeout.
        client.set_response_callback("BRPOP", _well_formed)
        return client

    def _connparams(self, asynchronous: bool = False) -> Any:
        # Celery closes a channel after its connection. kombu would then raise an AttributeError, which ends the worker.
        # The worker handles this error.
        if getattr(self.connection, "client", None) is None:
            raise NotConnected("the connection is closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]

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
            log_dropped(UNACKED_MALFORMED, self.unacked_key)


class Transport(redis.Transport):
    """For `redis://` and `rediss://`."""

    Channel = Channel


class AMQPChannel(pyamqp.Channel):
    """Survives a failed acknowledgement, and decompresses nothing.

    A few bytes may unpack to gigabytes, and our messages are never compressed.
    """

    def basic_ack(self, *args: Any, **options: Any) -> Any:
        try:
            return super().basic_ack(*args, **options)
        except (RecoverableConnectionError, OSError) as error:
            log_unacknowledged(error)

    def message_to_python(self, raw_message: Any) -> Any:
        raw_message.properties.get("application_headers", {}).pop("compression", None)
        return super().message_to_python(raw_message)


class AMQPConnection(pyamqp.Connection):
    Channel = AMQPChannel


class AMQPTransport(pyamqp.Transport):
    """For `amqp://` and `pyamqp://`."""

    Connection = AMQPConnection


class AMQPSTransport(pyamqp.SSLTransport):
    """For `amqps://`."""

    Connection = AMQPConnection


def _well_formed(reply: Any, **_options: Any) -> tuple[bytes, bytes] | None:
    """Return (queue, message) from a BRPOP reply; None if there is no message or it was dropped."""
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
    """Return the message; b"", which kombu skips, if it is malformed."""
    try:
        return envelope(raw, "", max_bytes=MAX_REPLY_BYTES)
    except MalformedMessage as error:
        log_dropped(error, BROADCAST, len(raw))
        return b""
