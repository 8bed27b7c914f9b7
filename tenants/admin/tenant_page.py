"""What a tenant's page shows above its fields, from the control database only: no tenant's database is opened."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from audit.control.models import ControlAuditLog
from audit.titles import title_of
from config.base.output import dollars, size
from tenants.admin.operations import duration_of, operation_url, requests_visible, status_badge
from tenants.app_hooks import contents
from tenants.erasure.presentation import phase_name
from tenants.models import (
    UNFINISHED,
    Backup,
    BackupKind,
    BackupStatus,
    MigrationBatch,
    OperationRequest,
    Tenant,
    TenantStatus,
)
from tenants.presentation import operation_name
from tenants.schema.releases import SchemaState, release, short
from tenants.selectors import operations_unfinished

NEWEST = 5
STATE_COLORS = {
    SchemaState.CURRENT: "success",
    SchemaState.BEHIND: "warning",
    SchemaState.AHEAD: "danger",
    SchemaState.UNKNOWN: "info",
}


def tenant_overview(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    """Return the template context of the cards that the person may see."""
    user = request.user
    overview: dict[str, Any] = {"unfinished": _unfinished(tenant)}
    if user.has_perm("tenants.view_backup"):
        overview["backup"] = _backup(tenant)
    if tenant.status != TenantStatus.DELETED:
        overview["schema"] = _schema(tenant)
        overview["spending"] = _spending(tenant)
    made = requests_visible(request, OperationRequest.objects.filter(tenant_id=tenant.id))
    overview["operations"] = [
        (row, row.title, status_badge(row), duration_of(row), operation_url(row)) for row in made[:NEWEST]
    ]
    if user.has_perm("tenants.view_operationrequest"):
        overview["operations_url"] = (
            f"{reverse('admin:tenants_operationrequest_changelist')}?{urlencode({'q': tenant.id})}"
        )
    if user.has_perm("audit_control.view_controlauditlog"):
        entries = ControlAuditLog.objects.filter(resource_type="tenant", resource_id=tenant.id)
        page = reverse("admin:audit_control_controlauditlog_changelist")
        query = urlencode({"resource_type__exact": "tenant", "resource_id__exact": tenant.id})
        newest = entries.order_by("-sequence")[: NEWEST + 3]
        overview |= {
            "entries": [(_event(one), one.user_id.removeprefix("staff:"), one.created_at) for one in newest],
            "entries_url": f"{page}?{query}",
        }
    return overview


def _event(entry: ControlAuditLog) -> str:
    """Return what happened and, for a step of a deletion, which step it was."""
    step = entry.details.get("step") if isinstance(entry.details, dict) else None
    title = title_of(entry.action)
    return f"{title}: {phase_name(step)}" if step else title


def _backup(tenant: Tenant) -> dict[str, Any]:
    completed = Backup.objects.filter(tenant_id=tenant.id, status=BackupStatus.COMPLETED, kind=BackupKind.BACKUP)
    last = completed.order_by("-started_at").first()
    drills = ControlAuditLog.objects.filter(
        action="tenant.drill.complete", resource_type="tenant", resource_id=tenant.id
    )
    return {
        "last": last,
        # It has none "yet" only if it can still be backed up.
        "is_over": tenant.status in (TenantStatus.DELETING, TenantStatus.DELETED),
        "size": size(last.size_bytes) if last else "",
        "url": reverse("admin:tenants_backup_change", args=[last.pk]) if last else "",
        "proof": _proof(last) if last else None,
        "drilled_at": drills.order_by("-sequence").values_list("created_at", flat=True).first(),
    }


def _proof(backup: Backup) -> tuple[str, str]:
    """Return (text, color) for whether the backup was verified, and what that found."""
    if backup.verified_at is None:
        return _("not verified yet"), "info"
    return (_("verification failed"), "danger") if backup.verify_error else (_("intact"), "success")


def _schema(tenant: Tenant) -> dict[str, Any]:
    state = release().state_of(tenant.schema_version)
    return {
        "state": state.label,
        "color": STATE_COLORS[state],
        "version": short(tenant.schema_version),
        "drift": None if tenant.schema_drift is None else len(tenant.schema_drift),
        "checked_at": tenant.schema_checked_at,
        "url": reverse("admin:tenants_tenantschema_change", args=[tenant.pk]),
    }


def _spending(tenant: Tenant) -> dict[str, Any]:
    spent = contents().spent_this_month(tenant.id)
    budget = tenant.monthly_budget_usd
    percent = min(100, round(100 * (spent or Decimal(0)) / budget)) if budget else 0
    return {
        "spent": dollars(spent or Decimal(0)),
        "budget": None if budget is None else dollars(budget),
        "percent": percent,
    }


def _unfinished(tenant: Tenant) -> list[str]:
    found = [
        _("An operation (%(kind)s) has not finished; it is running, or was interrupted.")
        % {"kind": operation_name(one.kind)}
        for one in operations_unfinished().filter(tenant_id=tenant.id)
    ]
    if MigrationBatch.objects.filter(status__in=UNFINISHED, tenants__tenant_id=tenant.id).exists():
        found.append(_("A batch that changes this tenant has not finished; it is running, or was interrupted."))
    return found
