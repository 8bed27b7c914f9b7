"""Mark tenants that may have unfinished runs, so that the sweep need not connect to thousands of databases."""

from datetime import datetime

from django.db.models.functions import Now

from config.base.databases import CONTROL
from tenants.models import Tenant


def mark_working(tenant_id: str) -> None:
    """Mark the tenant as having unfinished work. Commit this before the run's own transaction commits."""
    Tenant.objects.using(CONTROL).filter(pk=tenant_id).update(work_seen_at=Now())


def clear_working(tenant_id: str, *, seen_at: datetime) -> bool:
    """Remove the mark made at `seen_at`; return False if newer work has replaced it."""
    return bool(Tenant.objects.using(CONTROL).filter(pk=tenant_id, work_seen_at=seen_at).update(work_seen_at=None))
