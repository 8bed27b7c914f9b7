"""The pages on which staff request an operation: they show what it does, what is lost, and a form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from config.base.approvals import ApprovalRequired
from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin
from tenants.admin.operations import operation_url
from tenants.admin.request_forms import OperationForm
from tenants.approvals.decide import approval_request
from tenants.models import RequestKind, Tenant
from tenants.requests.request import operation_request
from tenants.routing.site_urls import control_url


@dataclass(frozen=True)
class Page:
    title: str
    explanation: str
    submit: str
    # Whether the button is red.
    destroys: bool = False


def request_page(
    admin: StaffAdmin,
    request: HttpRequest,
    form_class: Callable[..., OperationForm],
    tenant: Tenant | None,
    page: Page,
    *,
    loss: Callable[[], tuple[str, ...]] = tuple,
    template: str = "admin/operation_request.html",
    more_context: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Show the form and what is lost; on a valid POST, request the operation and redirect to its page.

    If a second person must approve, an approval is requested instead. `loss` may refuse the operation with a
    `SeoGenError`, which is raised if nothing was posted. `template` may show more than the form, from
    `more_context`.
    """
    form = form_class(tenant, request.POST or None)
    if request.method == "POST" and _is_valid(form):
        arguments, reason = form.arguments(), form.cleaned_data["reason"]
        try:
            made = operation_request(
                user=request.user,
                kind=form.kind,
                tenant_id=tenant.id if tenant else "",
                arguments=arguments,
                reason=reason,
            )
        except ApprovalRequired as wanted:
            return approval_wanted_page(request, wanted, reason)
        except SeoGenError as error:
            form.add_error(None, str(error))
        else:
            return HttpResponseRedirect(operation_url(made))
    context = {
        **admin.admin_site.each_context(request),
        "title": page.title,
        "page": page,
        "loss": _loss_beside(form, loss),
        "form": form,
        "opts": admin.opts,
        "original": tenant,
        "back_url": _back_url(admin, tenant),
        "media": admin.media + form.media,
        **(more_context or {}),
    }
    return TemplateResponse(request, template, context)


def approval_wanted_page(request: HttpRequest, wanted: ApprovalRequired, reason: str) -> HttpResponse:
    """Request the approval of a second person, and redirect to the page of the approval."""
    approval = approval_request(
        kind=wanted.kind,
        tenant_id=wanted.tenant_id,
        arguments=wanted.arguments,
        reason=reason,
        user=request.user,
    )
    messages.info(request, _("A second person has to approve this. Nothing has been done yet."))
    return HttpResponseRedirect(control_url("admin:tenants_approval_change", approval.pk))


def _back_url(admin: StaffAdmin, tenant: Tenant | None) -> str:
    if tenant is not None:
        return control_url("admin:tenants_tenant_change", tenant.pk)
    return reverse(f"admin:{admin.opts.app_label}_{admin.opts.model_name}_changelist")


def _loss_beside(form: OperationForm, loss: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    if not form.is_bound:
        return loss()
    # What was posted stays, with the error that it has.
    try:
        return loss()
    except SeoGenError:
        return ()


def _is_valid(form: OperationForm) -> bool:
    try:
        return form.is_valid()
    except SeoGenError as error:
        # A service's rule, such as that for ids.
        form.add_error(None, str(error))
        return False


def page_of(kind: RequestKind, tenant: Tenant | None) -> Page:
    """Return the texts of the page for this kind of operation. Raises `ValueError` for copies of prompts and undos."""
    name = {"id": tenant.id, "name": tenant.name} if tenant else {}
    match kind:
        case RequestKind.BACKUP:
            page = Page(
                _("Back up tenant %(id)s") % name,
                _(
                    "The backup of %(name)s is written to the configured location (BACKUP_OUTPUT). The tenant's runs"
                    " are not interrupted."
                )
                % name,
                _("Back up"),
            )
        case RequestKind.RESTORE:
            page = Page(
                _("Restore tenant %(id)s") % name,
                _(
                    "The database of %(name)s is replaced by the chosen state, once that is loaded and verified. Runs"
                    " that were in progress in that state, or were waiting in it and have begun since, are marked as"
                    " failed. The replaced database can be put back until the time in the restore's report."
                )
                % name,
                _("Restore"),
                destroys=True,
            )
        case RequestKind.UNDO:
            page = Page(
                _("Undo the last restore of tenant %(id)s") % name,
                _("The database of %(name)s that the last restore replaced is put back. This can be undone too.")
                % name,
                _("Undo the restore"),
                destroys=True,
            )
        case RequestKind.COPY:
            page = Page(
                _("Clone tenant %(id)s") % name,
                _("A new, independent tenant is made from a state of %(name)s, with its runs, files and prompts.")
                % name,
                _("Clone"),
            )
        case RequestKind.DRILL:
            page = Page(
                _("Restore drill of tenant %(id)s") % name,
                _(
                    "The chosen state is loaded into a scratch database, verified and migrated. Each step is timed, and"
                    " the database is then dropped. If you choose none, the present state is used, or the newest backup"
                    " if the server has no base backup. %(name)s is not touched."
                )
                % name,
                _("Start the drill"),
            )
        case RequestKind.EXPORT:
            page = Page(
                _("Export tenant %(id)s") % name,
                _(
                    "All data of %(name)s is written into one file, which another installation can import. The file can"
                    " be downloaded from its page under “Backups” until it expires."
                )
                % name,
                _("Export"),
            )
        case RequestKind.DELETE:
            page = Page(
                _("Delete tenant %(id)s") % name,
                _(
                    "The data of %(name)s will be erased for good. This cannot be undone, and the id can never be used"
                    " again."
                )
                % name,
                _("Delete for good"),
                destroys=True,
            )
        case RequestKind.MIGRATE:
            page = Page(
                _("Migrate all tenants"),
                _("This release's migrations are applied to every tenant, or to none."),
                _("Start"),
            )
        case RequestKind.PROMPT_COPY | RequestKind.PROMPT_UNDO:
            # These have pages of their own (`prompts.admin.copies`).
            raise ValueError(kind)
    return page
