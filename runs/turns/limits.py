"""Read the limits from the control database, and pass them to the script that decides about turns."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from config.base.databases import CONTROL
from llm.models import LLMModel, LLMProvider
from runs.turns.store import ask
from tenants.models import Tenant, TenantStatus

logger = logging.getLogger(__name__)

# How long a change in the admin may take to have effect.
MAX_AGE_S = 5.0
COLUMNS = ("max_concurrent_calls", "requests_per_minute", "tokens_per_minute")
# Nothing is published about tenants with these statuses.
GONE = (TenantStatus.DELETING, TenantStatus.DELETED)
UNITS = ("calls", "requests", "tokens")


class _Published:
    """The limits that this process read last, and when to read them again (by the monotonic clock)."""

    lock = threading.Lock()
    limits: dict[str, int] | None = None
    read_after = 0.0


def refresh() -> None:
    """Read the limits if they are older than `MAX_AGE_S`, and publish them if they changed.

    One thread reads; the others continue with what is published. Raises `Unavailable`.
    """
    if time.monotonic() < _Published.read_after or not _Published.lock.acquire(blocking=False):
        return
    try:
        _publish(only_changed=True)
    finally:
        _Published.lock.release()


def publish() -> None:
    """Publish the limits anew, because the server has lost them. Raises `Unavailable`."""
    with _Published.lock:
        _publish(only_changed=False)


def forget() -> None:
    """Make the next `refresh` read the limits, even in a child that was forked while a thread held the lock."""
    _Published.lock = threading.Lock()
    _Published.limits, _Published.read_after = None, 0.0


os.register_at_fork(after_in_child=forget)


def routes() -> list[str]:
    """Return the routes of all models, active or not."""
    models = LLMModel.objects.using(CONTROL).order_by("provider_id", "model_name")
    return [f"{provider}/{model}" for provider, model in models.values_list("provider_id", "model_name")]


def _publish(*, only_changed: bool) -> None:
    before = _Published.limits
    _Published.read_after = time.monotonic() + MAX_AGE_S
    try:
        limits = dict(_read())
    except (DatabaseError, InterfaceError) as error:
        # The step will need the control database too, and will report the failure.
        logger.info("limits not read", extra={"action": "turns.limits", "error": type(error).__name__})
        if before is None:
            return
        limits = before
    if only_changed and limits == before:
        return
    ask("set_limits", limits=[part for name, limit in limits.items() for part in (name, limit)])
    _Published.limits = limits


def _read() -> Iterator[tuple[str, int]]:
    """Yield the limits under the names that the script uses."""
    yield "tenants", _usable(settings.RUN_TENANT_CONCURRENCY)
    for provider, *columns in LLMProvider.objects.using(CONTROL).values_list("pk", *COLUMNS):
        yield from _of(f"provider:{provider}", columns)
    for provider, model, *columns in LLMModel.objects.using(CONTROL).values_list("provider_id", "model_name", *COLUMNS):
        yield from _of(f"model:{provider}/{model}", columns)
    limited = Tenant.objects.using(CONTROL).filter(max_concurrent_steps__isnull=False).exclude(status__in=GONE)
    for tenant_id, steps in limited.values_list("pk", "max_concurrent_steps"):
        if steps is not None:
            yield f"tenant:{tenant_id}", _usable(steps)


def _of(scope: str, columns: list[int | None]) -> Iterator[tuple[str, int]]:
    for unit, limit in zip(UNITS, columns, strict=True):
        if limit is not None:
            yield f"{scope}:{unit}", _usable(limit)


def _usable(limit: int) -> int:
    # With a limit of 0, nothing would ever start. The admin refuses it; SQL does not.
    return max(limit, 1)
