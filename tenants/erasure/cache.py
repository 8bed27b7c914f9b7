"""What is cached of a tenant: whoever caches anything names its key with `cache_key`, so that it can be erased.

The product caches nothing of tenants' contents today; the sessions of staff are in the control database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.utils.translation import gettext as _

from tenants.errors import CacheUnavailable

ANSWER_S = 5


def cache_key(tenant_id: str, name: str) -> str:
    """Return the key, for Django's cache, of something that belongs to the tenant."""
    return f"tenant:{tenant_id}:{name}"


def cached_keys(tenant_id: str) -> list[bytes]:
    """Return the tenant's keys as the server has them; raise `CacheUnavailable`."""
    client = _client()
    return [] if client is None else list(_keys(client, tenant_id))


def cache_erase(tenant_id: str) -> int:
    """Remove everything cached of the tenant; return how many keys. Raises `CacheUnavailable`."""
    keys, client = cached_keys(tenant_id), _client()
    if client is not None and keys:
        client.delete(*keys)
    return len(keys)


def _client() -> Any:
    """Return a client of the cache's server; None where it is another kind of cache, which lives in one process."""
    configured = settings.CACHES["default"]
    if "redis" not in configured["BACKEND"]:
        return None
    import redis  # slow to load; a cache of another kind does without

    return redis.Redis.from_url(configured["LOCATION"], socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)


def _keys(client: Any, tenant_id: str) -> Iterator[bytes]:
    # Ids hold no character that a pattern gives a meaning to.
    from redis import RedisError

    pattern = caches["default"].make_key(cache_key(tenant_id, "*"))
    try:
        yield from client.scan_iter(match=pattern, count=1000)
    except RedisError as error:
        raise CacheUnavailable(
            _("The cache cannot be reached: %(reason)s.") % {"reason": type(error).__name__},
            hint=_("`seo-gen stack status` shows what runs; CACHE_URL says where the cache is."),
        ) from error
