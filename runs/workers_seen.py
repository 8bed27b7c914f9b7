"""Record and read when a worker was last seen: all workers refresh one Valkey key (CACHE_URL) every few seconds.

The key's remaining lifetime shows how long ago that was, so only the clock of the Valkey server matters.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from django.conf import settings
from django.core.cache import caches

from config.base.redis_cache import primary_client

logger = logging.getLogger(__name__)

# After this time, no worker counts as seen.
KEPT_S = 24 * 60 * 60
ANSWER_S = 2.0


def worker_seen() -> None:
    """Record that a worker is running; call this every few seconds. A failure is only logged."""
    from redis import RedisError  # slow to import, and most commands do not need it

    try:
        _client().set(_key(), 1, ex=KEPT_S)
    except RedisError as error:
        extra = {"action": "worker.seen", "error": type(error).__name__}
        logger.warning("could not record that a worker is running", extra=extra)


def seconds_since_worker() -> float | None:
    """Return the seconds since a worker was last seen, at most `KEPT_S`; None if the server cannot be read."""
    from redis import RedisError

    try:
        remaining_ms = _client().pttl(_key())
    except RedisError:
        return None
    # Negative: there is no such key.
    return float(KEPT_S) if remaining_ms < 0 else max(0.0, KEPT_S - remaining_ms / 1000)


def _key() -> str:
    # Installations that share a server have queues of their own.
    return caches["default"].make_key(f"worker-seen:{settings.CELERY_TASK_DEFAULT_QUEUE}")


@cache
def _client() -> Any:
    return primary_client(answer_s=ANSWER_S)
