"""The ledger of erasures: an erased tenant is not restored or imported again without a recorded reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.control.models import ControlAuditLog
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.times import to_minute
from tenants.errors import ErasedTenant, UnknownErasure
from tenants.models import Erasure


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return the document's canonical form: UTF-8 JSON with sorted keys, no whitespace, and no newline at the end."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of the document's canonical form, as `sha256sum` prints it for a file in that form."""
    return hashlib.sha256(canonical(document)).hexdigest()


def erasures() -> QuerySet[Erasure]:
    """Return all erasures, newest first, with their operations."""
    return Erasure.objects.using(CONTROL).select_related("operation").order_by("-operation__started_at")


def erasure_get(tenant_id: str) -> Erasure:
    """Return the tenant's erasure, finished or not; raise `UnknownErasure` if there is none."""
    found = erasures().filter(tenant_id=tenant_id).first()
    if found is None:
        raise UnknownErasure(tenant_id)
    return found


def require_not_erased(identity: UUID, *, reason: str = "") -> Erasure | None:
    """Raise `ErasedTenant` if the tenant with that identity was erased here, or is being erased.

    With a `reason` to bring the tenant back, return its erasure instead; `note_return` records the reason. Returns None
    if the tenant was not erased.
    """
    found = erasures().filter(identity=identity).first()
    if found is not None and not reason.strip():
        erased_at = to_minute(found.completed_at) if found.completed_at else ""
        raise ErasedTenant(found.tenant_id, erased_at)
    return found


def note_return(erasure: Erasure, *, new_id: str, source: str, reason: str) -> None:
    """Record that an erased tenant's data is about to come back as another tenant."""
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="tenant.erased.return",
            resource_type="tenant",
            resource_id=erasure.tenant_id,
            details={"erasure": str(erasure.pk), "new_id": new_id, "source": source, "reason": reason.strip()},
        )


def ledger_problems() -> Iterator[str]:
    """Yield a sentence for each difference between the ledger and the deletions in the control log."""
    rows = {str(row.identity): row for row in Erasure.objects.using(CONTROL)}
    begun, ended = _by_identity("tenant.delete"), _by_identity("tenant.delete.complete")
    for identity, (tenant_id, _details) in begun.items():
        row = rows.get(identity)
        if row is None or row.tenant_id != tenant_id:
            yield _("The erasure of %(tenant)s is missing from the ledger.") % {"tenant": tenant_id}
    for identity, row in rows.items():
        if identity not in begun:
            yield _("The control log has no entry for the erasure of %(tenant)s.") % {"tenant": row.tenant_id}
        elif (row.completed_at is not None) != (identity in ended):
            yield _("The control log and the ledger disagree on whether %(tenant)s was erased.") % {
                "tenant": row.tenant_id
            }
        elif row.completed_at is not None and not _is_certified(row, ended[identity][1].get("certificate")):
            yield _("The ledger's certificate of %(tenant)s, or its sha256, does not match the control log.") % {
                "tenant": row.tenant_id
            }


def _is_certified(row: Erasure, digest: object) -> bool:
    return row.certificate is not None and digest == row.digest == digest_of(row.certificate)


def _by_identity(action: str) -> dict[str, tuple[str, dict[str, object]]]:
    """Return {identity: (tenant id, details)} from the control log's entries with this action about tenants."""
    entries = ControlAuditLog.objects.using(CONTROL).filter(action=action, resource_type="tenant").order_by("sequence")
    return {
        str((details or {}).get("identity")): (tenant_id, details or {})
        for tenant_id, details in entries.values_list("resource_id", "details")
    }
