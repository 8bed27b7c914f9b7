"""Decide which anchors a tenant's log may lack because a restore replaced the state that they recorded.

Each restore or undo ends one line of the log and starts another: the restored state, continued by a "tenant.restore"
entry that names the operation. The control log's "tenant.restore.complete" entry holds both heads. Only the control log
can explain a missing anchor; a restore that only the tenant's log claims explains nothing.

The lines form a tree. The current log is one path through it, from the first line to the last, through the restores
whose entry directly follows the restored head in the log. An anchor belongs to the line that was live when it was
taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from audit.control.models import ControlAuditLog
from audit.log.chain_check import ChainHead
from audit.verification.anchors import Anchor

CONTROL = "default"


@dataclass(frozen=True)
class Restored:
    """A restore, or an undo, as recorded in the control log."""

    operation: str
    at: datetime
    # The end of the replaced log; None if its database could no longer be read.
    replaced: ChainHead | None
    # The end of the restored log, before the entry that links the two.
    restored: ChainHead


def life_begins(tenant_id: str, identity: UUID) -> datetime | None:
    """Return the time of the last clone or import that created the tenant's database; None if there was none.

    Older anchors belong to an earlier life under the same identity, whose log is in the archive.
    """
    entries = ControlAuditLog.objects.using(CONTROL).filter(
        Q(action="tenant.import.complete") | Q(action="tenant.restore.complete", details__restored__isnull=True),
        resource_id=tenant_id,
        details__identity=str(identity),
    )
    return entries.order_by("-sequence").values_list("created_at", flat=True).first()


def restores_of(tenant_id: str) -> list[Restored]:
    """Return the tenant's restores and undos, oldest first; clones are not among them."""
    entries = ControlAuditLog.objects.using(CONTROL).filter(
        action="tenant.restore.complete", resource_type="tenant", resource_id=tenant_id
    )
    found = [_restored(entry) for entry in entries.order_by("sequence")]
    return [one for one in found if one is not None]


def path_of(restores: Sequence[Restored], bound: Collection[tuple[str, ChainHead]]) -> list[bool]:
    """Return, for each restore, whether its line is part of the current log.

    `bound` holds (operation, preceding chain head) for each "tenant.restore" entry in the log.
    """
    return [(one.operation, one.restored) in bound for one in restores]


def is_explained(anchor: Anchor, restores: Sequence[Restored], on_path: Sequence[bool]) -> bool:
    """Return whether restores explain why the log does not match the anchor.

    They do so only if the last restore is part of the log; otherwise someone has replaced the log again.
    """
    if not restores or not on_path[-1]:
        return False
    # The number of restores before the anchor; the last of them started the line that the anchor belongs to.
    number = sum(1 for one in restores if one.at < anchor.at)
    after = restores[number:]
    if not after or not _may_have_ended(anchor, after[0].replaced):
        return False
    if number and not on_path[number - 1]:
        return True
    # The log contains this line up to the state from which the next line on the path continues.
    branches = (one for one, there in zip(after, on_path[number:], strict=True) if there)
    return anchor.sequence > next(branches).restored.sequence


def _may_have_ended(anchor: Anchor, replaced: ChainHead | None) -> bool:
    """Return whether a log that matched the anchor could have ended at `replaced`."""
    if replaced is None or anchor.sequence < replaced.sequence:
        return True
    return anchor.sequence == replaced.sequence and anchor.hash == replaced.hash


def _restored(entry: ControlAuditLog) -> Restored | None:
    details = entry.details or {}
    restored = _head(details.get("restored"))
    if restored is None:  # a clone, which replaces nothing
        return None
    return Restored(str(details.get("operation")), entry.created_at, _head(details.get("replaced")), restored)


def _head(document: dict[str, Any] | None) -> ChainHead | None:
    return ChainHead(document["sequence"], document["hash"]) if document else None
