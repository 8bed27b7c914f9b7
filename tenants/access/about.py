"""Which tenant a page of the control site is about, so that permissions are checked for that tenant."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tenant_id: ContextVar[str | None] = ContextVar("page_about_tenant", default=None)


@contextmanager
def about_tenant(tenant_id: str | None) -> Iterator[None]:
    """Make `user.has_perm(…)` answer for this tenant inside the block.

    With None, it answers for any of the user's tenants. The tenant of an object that is passed to
    `has_perm` takes precedence, and so does an active tenant.
    """
    token = _tenant_id.set(tenant_id)
    try:
        yield
    finally:
        _tenant_id.reset(token)


def tenant_asked_about() -> str | None:
    return _tenant_id.get()
