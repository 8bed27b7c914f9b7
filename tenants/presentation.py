"""Present tenants and their operations: JSON documents, progress and names."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from tenants.errors import TenantError
from tenants.models import Backup, Tenant
from tenants.types import BatchProgress, OnBatchProgress, ignore_batch_progress
from tenants.types import Progress as TenantProgress


def tenant_document(tenant: Tenant) -> dict[str, Any]:
    """Return the `--json` document of a tenant; the URL is masked."""
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status,
        "is_active": tenant.is_active,
        "server": tenant.server_id,
        "database_url": tenant.masked_url,
        "created_at": tenant.created_at,
    }


def backup_document(backup: Backup) -> dict[str, Any]:
    """Return the `--json` document of a backup."""
    return {
        "id": str(backup.pk),
        "tenant_id": backup.tenant_id,
        "kind": backup.kind,
        "status": backup.status,
        "file": f"{backup.place}/{backup.name}",
        "format": backup.format,
        "encrypted_to": backup.recipient,
        "size_bytes": backup.size_bytes,
        "schema_version": backup.schema_version,
        "large_objects_left_out": (backup.manifest or {}).get("large_objects", 0),
        "started_at": backup.started_at,
        "finished_at": backup.finished_at,
        "verified_at": backup.verified_at,
        "problem": backup.verify_error or backup.error,
    }


def aware_time(text: str) -> datetime:
    """Parse an ISO 8601 time; raise `TenantError` if it is invalid, or ambiguous because it has no UTC offset."""
    try:
        # Python would read "2026-01-31+09:00", an offset without a time of day, as nine o'clock.
        if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
            raise ValueError("there is no time of day")
        moment = datetime.fromisoformat(text)
        # The first and last days of the calendar have no counterpart in some zones.
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
            localtime(moment)
    except (ValueError, OverflowError) as error:
        raise TenantError(
            _("%(text)r is not a valid time.") % {"text": text[:80]},
            hint=_("Use the form 2026-01-31T12:00:00+09:00."),
            code="time_invalid",
        ) from error
    if moment.tzinfo is None:
        raise TenantError(
            _("The time %(text)s has no UTC offset.") % {"text": text},
            hint=_("Add the offset, as in %(text)s+09:00, or Z for UTC.") % {"text": text},
            code="time_invalid",
        )
    return moment


@contextmanager
def batch_progress() -> Iterator[OnBatchProgress]:
    """Show the progress of a batch of tenants on stderr, if it is a terminal. Yields the listener."""
    if not sys.stderr.isatty():
        yield ignore_batch_progress
        return
    names = {
        "check": _("Checking tenants"),
        "rehearse": _("Rehearsing"),
        "compare": _("Comparing"),
        "prepare": _("Preparing"),
        "decide": _("Deciding"),
        "commit": _("Committing"),
        "roll back": _("Rolling back"),
    }
    from rich.console import Console  # slow to load, and not needed without a terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(progress: BatchProgress) -> None:
            if progress.phase not in names:
                return
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(names[progress.phase], total=progress.total, rate="")
            task = bars.tasks[tasks[progress.phase]]
            rate = _("%(rate).1f/s") % {"rate": task.speed} if task.speed else ""
            bars.update(task.id, completed=progress.done, rate=rate)

        yield show


def show_progress(progress: TenantProgress) -> None:
    """Print the step on stderr, if it is a terminal."""
    if sys.stderr.isatty():
        print(f"{progress.tenant_id}: {progress.step}", file=sys.stderr)


def operation_name(kind: str) -> str:
    """Return the kind of an operation or a batch in words; an unknown kind is returned as it is."""
    names = {
        "create": _("Creation"),
        "suspend": _("Suspension"),
        "resume": _("Resumption"),
        "rotate": _("Password change"),
        "backup": _("Backup"),
        "restore": _("Restore"),
        "restore undo": _("Undo of a restore"),
        "clone": _("Clone"),
        "import": _("Import"),
        "export": _("Export"),
        "delete": _("Deletion"),
        "migrate": _("Migration"),
        "prompt_copy": _("Copy of prompts"),
    }
    return names.get(kind, kind)
