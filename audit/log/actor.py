"""Who is acting, and in which operation: set where a person or process enters, read where an entry is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """A plain value, such as "operator:ann", "staff:bob" or "worker:host-1"."""

    user_id: str
    # Ties together what one command or request wrote; None where nothing needs tying.
    operation_id: str | None = None


SYSTEM = Actor("system")

_actor: ContextVar[Actor] = ContextVar("audit_actor", default=SYSTEM)


def current_actor() -> Actor:
    return _actor.get()


@contextmanager
def acting_as(user_id: str, operation_id: str | None = None) -> Iterator[Actor]:
    """Record every entry written inside as the deed of `user_id`; the outer actor is back afterwards."""
    actor = Actor(user_id, operation_id)
    token = _actor.set(actor)
    try:
        yield actor
    finally:
        _actor.reset(token)
