"""The mark on tenants that may have unfinished runs, so that the sweep need not connect to thousands of databases."""

from datetime import datetime

from django.db.models.functions import Now

from config.base.databases import CONTROL
from tenants.models import Tenant


def mark_working(tenant_id: str) -> None:
    """Note that the tenant may have work; call it, committed, before a run's own transaction commits."""
    Tenant.objects.using(CONTROL).filter(pk=tenant_id).update(work_seen_at=Now())


def clear_working(tenant_id: str, *, seen_at: datetime) -> bool:
    """Remove the mark if it still is the one read at `seen_at`; False where new work came in between."""
    return bool(Tenant.objects.using(CONTROL).filter(pk=tenant_id, work_seen_at=seen_at).update(work_seen_at=None))
