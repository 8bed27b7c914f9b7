"""Django's Redis cache with JSON instead of pickle: write access to the cache must not allow running code here.

Code that needs more than a cache, such as searching for keys, gets its client here too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from config.base.environment import BETWEEN_ADDRESSES

logger = logging.getLogger(__name__)


def primary_address() -> str:
    """Return the address of the server that can be written to: the first of CACHE_URL; the others are its replicas."""
    return BETWEEN_ADDRESSES.split(str(settings.CACHES["default"]["LOCATION"]))[0]


def primary_client(*, answer_s: float) -> Any:
    """Return a client for the server at `primary_address`; connecting and each reply may take `answer_s` seconds."""
    import redis  # slow to import, and most commands do not need it

    return redis.Redis.from_url(primary_address(), socket_timeout=answer_s, socket_connect_timeout=answer_s)


class MalformedValue(Exception):
    """A cached value is not JSON, so this code did not write it."""


class JSONSerializer:
    """Stores values as JSON; raises `TypeError` for a value that `json.dumps` cannot write."""

    def dumps(self, value: object) -> int | bytes:
        # Integers stay plain, so that the server can increment them.
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes | int) -> Any:
        try:
            return json.loads(data) if isinstance(data, bytes) else data
        except (ValueError, RecursionError) as error:
            raise MalformedValue from error


class _Client(RedisCacheClient):
    """Treats a malformed value as missing, so that it is computed again."""

    def __init__(self, servers: list[str], **options: Any) -> None:
        # The stubs allow only the pickle serializer.
        super().__init__(servers, serializer=JSONSerializer, **options)  # type: ignore[arg-type]

    def get(self, key: Any, default: Any) -> Any:
        try:
            return super().get(key, default)
        except MalformedValue:
            logger.warning("malformed cache value ignored", extra={"action": "cache.ignore", "key": key})
            return default

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        nothing = object()
        found = ((key, self.get(key, nothing)) for key in keys)
        return {key: value for key, value in found if value is not nothing}


class JSONCache(RedisCache):
    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _Client
