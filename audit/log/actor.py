"""The current actor and operation: set when a command, request or task starts, read when an entry is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """Who acts; `user_id` is for example "operator:ann", "staff:bob" or "worker:host-1"."""

    user_id: str
    # Shared by all entries of one command or request; None if there is nothing to group.
    operation_id: str | None = None


SYSTEM = Actor("system")

_actor: ContextVar[Actor] = ContextVar("audit_actor", default=SYSTEM)


def current_actor() -> Actor:
    return _actor.get()


@contextmanager
def acting_as(user_id: str, operation_id: str | None = None) -> Iterator[Actor]:
    """Attribute entries recorded inside the block to `user_id`; later ones, to the outer actor again.

    Without `operation_id`, they have none, even if the outer actor has one.
    """
    actor = Actor(user_id, operation_id)
    token = _actor.set(actor)
    try:
        yield actor
    finally:
        _actor.reset(token)
