"""The ledger of erasures: who was erased does not come back by a restore or an import, unless somebody says why."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils.timezone import localtime

from audit.services import record
from tenants.errors import ErasedTenant, UnknownErasure
from tenants.models import Erasure
from tenants.router import CONTROL


def erasures() -> QuerySet[Erasure]:
    """Return all of them, newest first, with their operations."""
    return Erasure.objects.using(CONTROL).select_related("operation").order_by("-operation__started_at")


def erasure_get(tenant_id: str) -> Erasure:
    """Return the tenant's erasure, finished or not; raise `UnknownErasure`."""
    found = erasures().filter(tenant_id=tenant_id).first()
    if found is None:
        raise UnknownErasure(tenant_id)
    return found


def require_not_erased(identity: UUID, *, reason: str = "") -> Erasure | None:
    """Raise `ErasedTenant` where the tenant with that identity was erased here, or is being erased.

    With a `reason` for its return its erasure is returned instead; `note_return` records it.
    """
    found = erasures().filter(identity=identity).first()
    if found is not None and not reason.strip():
        erased_at = f"{localtime(found.completed_at):%Y-%m-%d %H:%M}" if found.completed_at else "-"
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
