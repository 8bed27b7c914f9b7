"""Frozen values that the tenants app hands out."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class ActiveTenant:
    """The tenant that the current code works for."""

    id: str
    # Django's database alias, "tenant:<id>".
    alias: str
    # What the tenant's database must say it is.
    identity: UUID


@dataclass(frozen=True)
class Progress:
    """One step of an operation has been reached; commands format it, services never print."""

    tenant_id: str
    step: str


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """The default listener."""
