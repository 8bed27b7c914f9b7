"""Run a script in Valkey or Redis that decides about turns, atomically for all workers.

limits.lua, queues.lua and operations.lua form one script; each begins with a list of its keys. All keys begin with the
installation's prefix and its queue's name, so that tests and installations that share a server do not mix.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import settings

from config.base.redis_cache import primary_address

logger = logging.getLogger(__name__)

# How long a server may take to answer; it needs less than a millisecond.
ANSWER_S = 1.0
# How long a server that did not answer is left alone, so that threads do not all wait for timeouts.
PAUSE_S = 1.0
LOG_EVERY_S = 60.0
# Per process. A command takes less than a millisecond, so few threads ever wait for one.
CONNECTIONS_MAX = 16
# How long a thread waits for a connection that another thread uses, which takes longer on a busy machine.
CONNECTION_WAIT_S = 10.0
SCRIPT = ("limits.lua", "queues.lua", "operations.lua")


class Unavailable(Exception):
    """The server cannot be reached, or cannot answer. Workers continue without it."""


class _Health:
    """When the server may be asked again, and when its absence may be logged again (both by the monotonic clock)."""

    ask_after = 0.0
    log_after = 0.0


# Milliseconds since the epoch instead of the server's clock, for tests.
clock: Callable[[], int] | None = None


def ask(operation: str, **values: object) -> dict[str, Any]:
    """Run an operation of the script and return its reply; values that are None are left out.

    Raises `Unavailable` if the server does not answer, or did not answer a moment ago.
    """
    if time.monotonic() < _Health.ask_after:
        raise Unavailable
    return ask_anyway(operation, **values)


def ask_anyway(operation: str, **values: object) -> dict[str, Any]:
    """Run an operation even if the server did not answer a moment ago; raise `Unavailable` if it still does not."""
    from redis.exceptions import RedisError  # slow to import, and loaded by few commands

    request = {"operation": operation, "nonce": uuid4().hex, **_settings(), **values}
    try:
        reply = _reply(json.dumps({name: value for name, value in request.items() if value is not None}))
    except (RedisError, OSError) as error:
        _note_failure(error)
        raise Unavailable from error
    found: dict[str, Any] = json.loads(reply)
    return found


def _reply(request: str) -> bytes:
    """Send the request, once more after a timeout, and return the reply. A repeated request changes nothing more."""
    from redis.exceptions import TimeoutError as NoAnswer

    script = _script(primary_address(), os.getpid())
    try:
        reply: bytes = script(keys=[prefix()], args=[request])
    except NoAnswer:
        reply = script(keys=[prefix()], args=[request])
    return reply


def prefix() -> str:
    """Return the beginning of every key. The braces keep all keys on one server of a cluster."""
    installation = f"{settings.TENANT_DATABASE_PREFIX}/{settings.CELERY_TASK_DEFAULT_QUEUE}"
    return f"{settings.CACHES['default']['KEY_PREFIX']}:turns:{{{installation}}}:"


def delete_keys(pattern: str) -> int:
    """Delete the keys that match `pattern` below the prefix; return how many were deleted. Raises `Unavailable`."""
    from redis.exceptions import RedisError

    try:
        keys = list(_matching(pattern))
        return int(_client(primary_address(), os.getpid()).delete(*keys)) if keys else 0
    except (RedisError, OSError) as error:
        raise Unavailable from error


def _matching(pattern: str) -> Iterator[bytes]:
    # The queue's name may contain wildcards.
    beginning = "".join(f"\\{character}" if character in "*?[]\\^" else character for character in prefix())
    yield from _client(primary_address(), os.getpid()).scan_iter(match=beginning + pattern, count=1000)


def _settings() -> dict[str, object]:
    return {
        "now_ms": clock() if clock else None,
        "lease_ms": int(settings.RUN_LEASE_S * 1000),
        "faults": settings.LLM_BREAKER_FAULTS,
        "fault_window_ms": int(settings.LLM_BREAKER_WINDOW_S * 1000),
        "open_ms": int(settings.LLM_BREAKER_OPEN_S * 1000),
        "open_max_ms": int(settings.LLM_BREAKER_OPEN_MAX_S * 1000),
        # Scripts have no randomness of their own.
        "jitter": random.random(),
    }


# By process id, because a child must not use its parent's connections.
@cache
def _client(address: str, process_id: int) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as NotConnected
    from redis.retry import Retry

    pool = redis.BlockingConnectionPool.from_url(
        address,
        max_connections=CONNECTIONS_MAX,
        timeout=CONNECTION_WAIT_S,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        # Retry once, since a restarted server has closed the kept connections.
        retry=Retry(NoBackoff(), 1, supported_errors=(NotConnected,)),
    )
    return redis.Redis(connection_pool=pool)


@cache
def _script(address: str, process_id: int) -> Any:
    text = "\n".join((Path(__file__).parent / name).read_text() for name in SCRIPT)
    return _client(address, process_id).register_script(text)


def _note_failure(error: Exception) -> None:
    now = time.monotonic()
    _Health.ask_after = now + PAUSE_S
    if now >= _Health.log_after:
        _Health.log_after = now + LOG_EVERY_S
        logger.warning(
            "limits and queues cannot be reached, so only a few steps start",
            extra={"action": "turns.unavailable", "error": type(error).__name__},
        )
