"""Per-tenant cache keys. Always build keys with `cache_key`, so that an erasure can find them.

No tenant content is currently cached; staff sessions are in the control database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.utils.translation import gettext as _

from config.base.redis_cache import primary_client
from tenants.errors import CacheUnavailable

ANSWER_S = 5


def cache_key(tenant_id: str, name: str) -> str:
    """Return the key in Django's cache for an item that belongs to the tenant."""
    return f"tenant:{tenant_id}:{name}"


def cached_keys(tenant_id: str) -> list[bytes]:
    """Return the tenant's keys as stored on the cache server. Raises `CacheUnavailable`."""
    client = _client()
    return [] if client is None else list(_keys(client, tenant_id))


def cache_erase(tenant_id: str) -> int:
    """Delete the tenant's keys and return how many there were. Raises `CacheUnavailable`."""
    keys, client = cached_keys(tenant_id), _client()
    if client is not None and keys:
        with _unreachable_told():
            client.delete(*keys)
    return len(keys)


def _client() -> Any:
    """Return a client for the cache server; None for any other kind of cache, which the settings never use."""
    if "redis" not in settings.CACHES["default"]["BACKEND"]:
        return None
    return primary_client(answer_s=ANSWER_S)


def _keys(client: Any, tenant_id: str) -> Iterator[bytes]:
    # No escaping is needed, since tenant ids contain no wildcard characters.
    pattern = caches["default"].make_key(cache_key(tenant_id, "*"))
    with _unreachable_told():
        yield from client.scan_iter(match=pattern, count=1000)


@contextmanager
def _unreachable_told() -> Iterator[None]:
    """Turn the client's errors into `CacheUnavailable`."""
    from redis import RedisError

    try:
        yield
    except RedisError as error:
        raise CacheUnavailable(
            _("The cache cannot be used: %(reason)s.") % {"reason": type(error).__name__},
            hint=_("`seo-gen stack status` shows what is running; CACHE_URL is the cache's address."),
        ) from error
