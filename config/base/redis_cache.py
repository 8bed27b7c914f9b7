"""Django's cache in Redis or Valkey, with JSON instead of pickle: who can write to it must not run code here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient

logger = logging.getLogger(__name__)


class MalformedValue(Exception):
    """What the cache holds is not what this code writes there."""


class JSONSerializer:
    """Takes what JSON has; anything else is refused when it is written (`TypeError`), not changed unseen."""

    def dumps(self, value: object) -> int | bytes:
        # Plain, so that the server can count with it.
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes | int) -> Any:
        try:
            return json.loads(data) if isinstance(data, bytes) else data
        except (ValueError, RecursionError) as error:
            raise MalformedValue from error


class _Client(RedisCacheClient):
    """Takes a malformed value for none: what is not in the cache is made again."""

    def __init__(self, servers: list[str], **options: Any) -> None:
        # The stubs know of pickles alone.
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
