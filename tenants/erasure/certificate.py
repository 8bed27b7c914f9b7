"""The certificate of an erasure: a JSON document that states what was erased, and what remains, why and until when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_noop

from audit.control.models import ControlAuditLog
from config.base.databases import CONTROL
from tenants.backup.version import product_version
from tenants.erasure.inventory import GONE, OUT_OF_REACH
from tenants.files.locations import place_at
from tenants.models import (
    BackupKind,
    BackupStatus,
    BaseBackup,
    DatabaseServer,
    Erasure,
    ErasurePhase,
    Tenant,
    TenantStatus,
)

# One more reason why a supplied file was not removed; `tenants.erasure.inventory` has the others.
CHANGED = "changed"
# Why something remains. The document contains the English text; pages translate it.
WHY_AUDIT = gettext_noop(
    "The audit log records who did what and when, by ids and digests, without contents. It is kept and cannot be"
    " changed, so that what happened to the data, including its erasure, can be proven."
)
WHY_TOMBSTONE = gettext_noop("The id is kept so that it is never given to another tenant.")
WHY_PHYSICAL = gettext_noop(
    "Base backups and write-ahead logs cover the whole server and cannot be changed in part. They are removed when"
    " their retention ends; until then the tenant can be restored from them only if an operator gives a reason, which"
    " is recorded."
)
WHY_UNTIL = gettext_noop(
    "Provided that the server's next base backup is a full one, made within that time, and that `seo-gen backup prune`"
    " runs."
)
WHY_BACKUPS = gettext_noop("This backup could not be removed; the operator accepted that it may remain.")
WHY_FILES = gettext_noop(
    "This file was read for this tenant. If it contains the tenant's data, anyone who still has it, or a copy of it,"
    " must delete it."
)
WHY_STREAMED = gettext_noop(
    "The product wrote this tenant's data to standard output, on an operator's command. Anyone who still has it, or a"
    " copy of it, must delete it."
)
WHY_COPIES = gettext_noop(
    "Separate tenants that share this tenant's history, such as clones of it, or the tenant that it was cloned from."
)
WHY_SUPERSEDED = gettext_noop(
    "Files of the control database may contain old versions of its rows, with the tenant's name and error texts, until"
    " they are rewritten: right after the erasure if no one is reading them, else by `seo-gen backup prune`. Its"
    " server's write-ahead log and base backups contain them until their own retention ends."
)


def certificate_of(row: Erasure, completed_at: datetime) -> dict[str, Any]:
    """Build the JSON-ready document from what the steps recorded, and from what the control database says now.

    Times are ISO 8601 with offset, sizes in bytes.
    """
    found = row.found
    listed = found[ErasurePhase.LISTED]
    remaining = found[ErasurePhase.BACKUPS]["remaining"]
    files = files_of(found)
    left = [one for one in files if one["left"] is not None]
    return {
        "format_version": 1,
        "certificate": str(row.pk),
        "tenant_id": row.tenant_id,
        "identity": str(row.identity),
        "requested_at": row.operation.started_at.isoformat(),
        "requested_by": row.operation.user_id,
        "completed_at": completed_at.isoformat(),
        # The losses that the operator accepted (`tenants.erasure.steps`).
        "accepted": row.accepts,
        "product": product_version(),
        "erased": {
            "server": row.server,
            "databases": listed["databases"],
            "rows": listed["rows"],
            "roles": found[ErasurePhase.CREDENTIALS]["roles"],
            "storage": {"place": listed["place"], **listed["storage"]},
            "backups": [one for one in listed["backups"] if one["id"] not in remaining],
            "files": [one for one in files if one["left"] is None],
            "messages": found[ErasurePhase.MESSAGES]["messages"],
            "cache_keys": found[ErasurePhase.MESSAGES]["cache_keys"],
            # An older release, which had none, may have begun the erasure.
            "run_summaries": found[ErasurePhase.MESSAGES].get("run_summaries", 0),
        },
        "remains": {
            "audit": _about_audit_log(row),
            "tombstone": {"tenant_id": row.tenant_id, "why": WHY_TOMBSTONE},
            "physical": _physical(row, completed_at),
            "superseded": {"why": WHY_SUPERSEDED},
            "backups": _remaining_backups([one for one in listed["backups"] if one["id"] in remaining]),
            "files": _remaining_files([one for one in left if one["purpose"] not in BackupKind.values], WHY_FILES),
            "streamed": _remaining_files([one for one in left if one["purpose"] in BackupKind.values], WHY_STREAMED),
            "copies": _copies(row),
        },
    }


def files_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the listed files (`HeldFile`); `left` says why a file was not removed, and is None if it was.

    "there": an erasure does not remove this file (`HeldFile.goes`); "changed": another file is in its place now; the
    other values are those of `tenants.erasure.inventory`.
    """
    tried = found[ErasurePhase.BACKUPS]

    def left(file: Mapping[str, Any]) -> str | None:
        if file["file"] in tried.get("changed", []):
            return CHANGED
        if file["state"] == GONE or not file["goes"]:
            return str(file["state"])
        return OUT_OF_REACH if file["file"] in tried["remaining"] else None

    named = ("file", "sha256", "size_bytes", "purpose", "read_at")
    files = found[ErasurePhase.LISTED].get("files", [])
    return [{**{name: file[name] for name in named}, "left": left(file)} for file in files]


def _about_audit_log(row: Erasure) -> dict[str, Any]:
    about = ControlAuditLog.objects.using(CONTROL).filter(resource_type="tenant", resource_id=row.tenant_id)
    return {**row.found[ErasurePhase.ARCHIVED], "operators_entries": about.count(), "why": WHY_AUDIT}


def _remaining_backups(backups: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"backups": backups, "why": WHY_BACKUPS} if backups else None


def _remaining_files(files: list[dict[str, Any]], why: str) -> dict[str, Any] | None:
    return {"files": files, "why": why} if files else None


def _copies(row: Erasure) -> dict[str, Any] | None:
    origin = Q(identity=row.chain_identity) | Q(chain_identity=row.chain_identity)
    related = Tenant.objects.using(CONTROL).filter(origin).exclude(status=TenantStatus.DELETED)
    ids = sorted(related.exclude(pk=row.tenant_id).values_list("pk", flat=True))
    return {"tenants": ids, "why": WHY_COPIES} if ids else None


def _physical(row: Erasure, completed_at: datetime) -> dict[str, Any]:
    """Return which base backups and archived WAL may still contain the databases, and until when at the latest."""
    server = DatabaseServer.objects.using(CONTROL).filter(pk=row.server).first()
    gone = (BackupStatus.REMOVED, BackupStatus.FAILED)
    backups = list(BaseBackup.objects.using(CONTROL).filter(server_id=row.server).exclude(status__in=gone))
    days = settings.CLUSTER_BACKUP_RETENTION_DAYS
    # We cannot know when a running backup will finish, so allow a day.
    last = completed_at + timedelta(days=any(backup.finished_at is None for backup in backups))
    return {
        "server": row.server,
        "base_backups": [
            {
                "id": str(backup.pk),
                "path": place_at(backup.place).path(backup.name),
                "finished_at": backup.finished_at.isoformat() if backup.finished_at else None,
            }
            for backup in backups
        ],
        "wal_archive": (server.wal_archive or server.wal_restore_command) if server else "",
        # The WAL up to this point was written while the databases existed.
        "wal_until_lsn": row.found[ErasurePhase.DATABASES]["lsn"],
        "wal_until_segment": row.found[ErasurePhase.DATABASES]["segment"],
        "restore_point": row.found[ErasurePhase.MARKED]["restore_point"],
        "retention_days": days,
        "until": (last + timedelta(days=days)).isoformat(),
        "why": WHY_PHYSICAL,
        "provided": WHY_UNTIL,
    }
