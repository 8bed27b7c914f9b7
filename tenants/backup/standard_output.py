"""Backups and exports to standard output. They are not in the catalogue, but erasure certificates list them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from django.db import transaction
from django.utils.timezone import now

from audit.log.actor import current_actor
from audit.log.entries import record
from config.base.approvals import EXPORT, require_approval
from config.base.databases import CONTROL
from tenants.files.locations import STANDARD
from tenants.files.streams import Tally
from tenants.models import Backup, BackupKind, FileRead, Tenant

# Recorded like standard input (`tenants.files.files_read`). All outputs share one name, so each gets a unique number.
PLACE, NAME = "/dev", "stdout ({number})"


@dataclass(frozen=True)
class Streamed:
    """Size and digest of the bytes written: of the encrypted bytes, if the output is encrypted."""

    tenant_id: str
    size_bytes: int
    sha256: str


def unrecorded(tenant: Tenant, *, kind: BackupKind, made_as: str, recipient: str) -> Backup:
    """Return the row that the catalogue would have if the output went to a file. The row must never be saved."""
    return Backup(
        tenant_id=tenant.id,
        identity=tenant.identity,
        kind=kind,
        place=STANDARD,
        name=STANDARD,
        format=made_as,
        recipient=recipient,
        started_at=now(),
    )


@contextmanager
def streaming(tenant: Tenant, kind: BackupKind, target: IO[bytes], *, recipient: str = "") -> Iterator[Tally]:
    """Yield the stream to write to; record the output before the block runs, and its digest or failure afterwards.

    This way, nothing is written without a record. Bytes written before a failure cannot be taken back.
    """
    row = _begin(tenant, kind, recipient)
    tally = Tally(target)
    try:
        yield tally
        target.flush()
    except BaseException:
        with transaction.atomic(using=CONTROL):
            _audit(f"tenant.{kind}.fail", row, {})
        raise
    row.sha256, row.size_bytes = tally.sha256, tally.size_bytes
    with transaction.atomic(using=CONTROL):
        row.save(using=CONTROL, update_fields=["sha256", "size_bytes"])
        _audit(f"tenant.{kind}.complete", row, {"sha256": row.sha256})


def _begin(tenant: Tenant, kind: BackupKind, recipient: str) -> FileRead:
    actor = current_actor()
    with transaction.atomic(using=CONTROL):
        if kind == BackupKind.EXPORT:
            require_approval(EXPORT, tenant.id, {"output": STANDARD, "recipient": recipient})
        row = FileRead.objects.using(CONTROL).create(
            place=PLACE,
            name=NAME.format(number=uuid.uuid4()),
            is_stream=True,
            tenant_id=tenant.id,
            identity=tenant.identity,
            purpose=kind,
            holds=tenant.identity,
            user_id=actor.user_id,
            operation_id=actor.operation_id or "",
        )
        _audit(f"tenant.{kind}", row, {})
    return row


def _audit(action: str, row: FileRead, details: dict[str, object]) -> None:
    where: dict[str, object] = {"place": STANDARD, "file": row.name}
    record(
        using=CONTROL, action=action, resource_type="tenant", resource_id=row.tenant_id, details={**where, **details}
    )
