"""Find and remove what the server knows about a tenant, for an erasure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from runs.turns.store import Unavailable, ask_anyway, delete_keys
from tenants.errors import CacheUnavailable


def count(tenant_id: str) -> int:
    """Return how many of the tenant's steps are waiting or in flight. Raises `CacheUnavailable`."""
    with _reporting_unavailable():
        return int(ask_anyway("count", tenant=tenant_id)["number"])


def erase(tenant_id: str) -> int:
    """Remove everything that names the tenant; return how many of its steps were waiting or in flight.

    A worker that is still calling a model for the tenant may record that call again until it finds the tenant closed;
    that record expires after the length of a lease. Raises `CacheUnavailable`.
    """
    with _reporting_unavailable():
        number = int(ask_anyway("erase", tenant=tenant_id)["number"])
        # This also finds keys that are in no index. Tenant ids contain no wildcards.
        delete_keys(f"tenant:{tenant_id}:*")
        # Replies may name the tenant. Without them, a request that is sent twice at this moment is done twice.
        delete_keys("reply:*")
        return number


@contextmanager
def _reporting_unavailable() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        reason = type(error.__cause__ or error).__name__
        raise CacheUnavailable(
            _("The cache cannot be used: %(reason)s.") % {"reason": reason},
            hint=_("`seo-gen stack status` shows what is running; CACHE_URL is the cache's address."),
        ) from error
