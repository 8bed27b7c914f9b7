"""What staff can request on a tenant's page: each button leads to a form, and the form to the operation's page."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin, action, is_action
from tenants.access.visible import tenants_visible
from tenants.admin.request_forms import (
    BackupForm,
    CopyForm,
    DeleteForm,
    DrillForm,
    ExportForm,
    OperationForm,
    RestoreForm,
    UndoForm,
)
from tenants.admin.request_pages import page_of, request_page
from tenants.backup.backup import BACKED_UP
from tenants.erasure.delete import DELETABLE, tenant_delete_check, tenant_loss
from tenants.erasure.loss import loss_lines
from tenants.models import RequestKind, Restore, Tenant
from tenants.requests.kinds import KINDS
from tenants.restore.undo import replaced_last
from tenants.restore.workflow import RESTORABLE

Check = Callable[[str], object]
# The request attribute that caches the status of the page's tenant.
STATUS = "seo_gen_tenant_status"

if TYPE_CHECKING:
    Base = StaffAdmin
else:
    Base = object


class TenantOperations(Base):
    """The part of `TenantAdmin` with the buttons for operations; each button leads to a form."""

    def has_back_up_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.BACKUP, BACKED_UP)

    def has_restore_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.RESTORE, RESTORABLE)

    def has_undo_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        if not _offers(request, object_id, RequestKind.UNDO, RESTORABLE):
            return False
        kept = Restore.objects.filter(tenant_id=object_id, kept_until__isnull=False)
        return is_action(request) or kept.exists()

    def has_copy_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.COPY, BACKED_UP)

    def has_drill_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.DRILL, RESTORABLE)

    def has_export_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.EXPORT, BACKED_UP)

    def has_erase_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return _offers(request, object_id, RequestKind.DELETE, DELETABLE)

    @action(description=gettext_lazy("Back up"), permissions=["back_up"], icon="backup", url_path="back-up")
    def back_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, BackupForm)

    @action(
        description=gettext_lazy("Restore …"),
        permissions=["restore"],
        icon="settings_backup_restore",
        url_path="restore",
    )
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, RestoreForm)

    @action(description=gettext_lazy("Undo the last restore …"), permissions=["undo"], icon="undo", url_path="undo")
    def undo(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, UndoForm, check=replaced_last)

    @action(description=gettext_lazy("Restore drill …"), permissions=["drill"], icon="verified", url_path="drill")
    def drill(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, DrillForm)

    @action(
        description=gettext_lazy("Clone to a new tenant …"), permissions=["copy"], icon="content_copy", url_path="copy"
    )
    def copy(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, CopyForm)

    @action(description=gettext_lazy("Export …"), permissions=["export"], icon="ios_share", url_path="export")
    def export(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._page(request, object_id, ExportForm)

    @action(description=gettext_lazy("Delete …"), permissions=["erase"], variant=ActionVariant.DANGER, url_path="erase")
    def erase(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what will be lost, as the command does before it asks for confirmation; a POST requests the deletion."""

        def check(tenant_id: str) -> tuple[str, ...]:
            tenant_delete_check(tenant_id=tenant_id, accept_audit_loss=True)
            return tuple(loss_lines(tenant_loss(tenant_id=tenant_id)))

        return self._page(request, object_id, DeleteForm, check=check)

    def _page(
        self, request: HttpRequest, tenant_id: str, form_class: type[OperationForm], check: Check | None = None
    ) -> HttpResponse:
        tenant = tenants_visible(request.user).filter(pk=tenant_id).first()
        if tenant is None:
            raise Http404
        page, tenant_id = page_of(form_class.kind, tenant), tenant.id

        def loss() -> tuple[str, ...]:
            found = check(tenant_id) if check else ()
            return found if isinstance(found, tuple) else ()

        try:
            return request_page(self, request, form_class, tenant, page, loss=loss)
        except SeoGenError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:tenants_tenant_change", args=[tenant_id]))


def _offers(request: HttpRequest, tenant_id: object, kind: RequestKind, statuses: Collection[str]) -> bool:
    """Return whether the person may request the operation, and the tenant's status allows it.

    On a POST, the service checks the status.
    """
    # On a page of one tenant, the question is about that one (`config.site.scope`).
    needed = filter(None, (KINDS[kind].permission, KINDS[kind].also))
    if not all(request.user.has_perm(permission) for permission in needed):
        return False
    return tenant_id is None or is_action(request) or status_of(request, tenant_id) in statuses


def status_is_known(request: HttpRequest, tenant_id: str, status: str | None) -> None:
    """Keep a status that has been read anyway, so that `status_of` need not read it."""
    request.__dict__.setdefault(STATUS, {})[tenant_id] = status


def status_of(request: HttpRequest, tenant_id: object) -> str | None:
    """Return the tenant's status, read once per request for all buttons; None if there is no such tenant."""
    known: dict[str, str | None] = request.__dict__.setdefault(STATUS, {})
    key = str(tenant_id)
    if key not in known:
        known[key] = Tenant.objects.filter(pk=key).values_list("status", flat=True).first()
    return known[key]
