"""Admin pages for approvals: the list, and the page on which to decide a request or start it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.approvals import approval_given
from config.base.errors import SeoGenError
from config.site.admin_base import OWN_SCOPE, ReadOnlyAdmin, as_badge, as_link
from llm.models import LLMModel
from llm.prices.by_hand import prices_set
from llm.prices.unit_names import unit_name
from llm.types import ModelPrices
from tenants.access.visible import sees_all_tenants
from tenants.admin.operations import about_visible, operation_url, report_url
from tenants.approvals.decide import approval_approve, approval_reject, approval_withdraw
from tenants.approvals.people import is_requester, may_approve
from tenants.erasure.delete import tenant_loss
from tenants.erasure.loss import loss_lines
from tenants.files.locations import STANDARD
from tenants.models import Approval, ApprovalKind, ApprovalStatus, OperationRequest, RequestKind
from tenants.requests.errors import InvalidOperation
from tenants.requests.prompt_copies import copy_arguments, preview_of
from tenants.requests.request import operation_request

APPROVAL_COLORS = {
    ApprovalStatus.REQUESTED: "info",
    ApprovalStatus.APPROVED: "success",
    ApprovalStatus.REJECTED: "danger",
    ApprovalStatus.WITHDRAWN: "warning",
    ApprovalStatus.USED: "default",
}
OPEN = (ApprovalStatus.REQUESTED, ApprovalStatus.APPROVED)


class WaitingFilter(admin.SimpleListFilter):
    title = gettext_lazy("next step")
    parameter_name = "waiting"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("me", _("for me to decide")), ("start", _("for me to start"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Approval]) -> QuerySet[Approval]:
        alive = queryset.filter(expires_at__gt=timezone.now())
        match self.value():
            case "me":
                waiting = alive.filter(status=ApprovalStatus.REQUESTED)
                return waiting.filter(pk__in=[row.pk for row in waiting if _decides(request, row)])
            case "start":
                return alive.filter(status=ApprovalStatus.APPROVED, requester_id=request.user.pk)
        return queryset


class ApprovalAdmin(ReadOnlyAdmin):
    # `get_queryset`: also rows about all tenants, for people who see all of them, and own requests for deleted tenants.
    tenant_path = OWN_SCOPE
    audit_resource = "approval"
    list_display = (
        *("requested_at", "shown_kind", "shown_tenant", "shown_status", "requested_by", "reason"),
        *("decided_by", "expires_at"),
    )
    list_filter = (WaitingFilter, "status", "kind")
    search_fields = ("=tenant_id", "=requested_by", "=id")
    search_help_text = gettext_lazy("Full tenant id, approval id or requester, such as staff:ann")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        found: QuerySet[Approval] = super().get_queryset(request)
        if sees_all_tenants(request.user):
            return found
        return found.filter(about_visible(request.user))

    def get_custom_urls(self) -> Any:
        return (
            ("<uuid:approval_id>/approve/", "tenants_approval_approve", self.approve_view),
            ("<uuid:approval_id>/reject/", "tenants_approval_reject", self.reject_view),
            ("<uuid:approval_id>/withdraw/", "tenants_approval_withdraw", self.withdraw_view),
            ("<uuid:approval_id>/start/", "tenants_approval_start", self.start_view),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        is_alive = row.status in OPEN and row.expires_at > timezone.now()
        own = row.requester_id == request.user.pk
        decides = is_alive and row.status == ApprovalStatus.REQUESTED and _decides(request, row)
        starts = is_alive and row.status == ApprovalStatus.APPROVED and own and row.kind in STARTS
        context = {
            **self.admin_site.each_context(request),
            "title": capfirst(row.get_kind_display()),
            "opts": self.opts,
            "original": row,
            "media": self.media,
            "row": row,
            "badge": _badge(row),
            # What a deletion destroys is counted in the tenant's database: only for the person who is about to act.
            "lines": _consequences(row) if decides or starts else [],
            "arguments": _arguments(row),
            "decides": decides,
            "starts": starts,
            "start_variant": "danger" if row.kind == ApprovalKind.DELETE else "",
            "withdraws": is_alive and own,
            "own": own,
            "links": _links(request, row),
        }
        return TemplateResponse(request, "admin/approval.html", {**context, **(extra_context or {})})

    def approve_view(self, request: HttpRequest, approval_id: UUID, model_admin: object) -> HttpResponse:
        return self._decide(request, approval_id, approval_approve, _("You have approved the request."))

    def reject_view(self, request: HttpRequest, approval_id: UUID, model_admin: object) -> HttpResponse:
        return self._decide(request, approval_id, approval_reject, _("You have rejected the request."))

    def withdraw_view(self, request: HttpRequest, approval_id: UUID, model_admin: object) -> HttpResponse:
        row = self._row(request, approval_id)
        return self._do(request, row, lambda: approval_withdraw(approval_id=row.pk, user=request.user), "")

    def start_view(self, request: HttpRequest, approval_id: UUID, model_admin: object) -> HttpResponse:
        """Start what was approved, with the arguments that were approved."""
        row = self._row(request, approval_id)
        if row.kind not in STARTS:
            raise Http404
        try:
            return HttpResponseRedirect(STARTS[ApprovalKind(row.kind)](request, row))
        except SeoGenError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(approval_url(row))

    @admin.display(description=gettext_lazy("operation"), ordering="kind")
    def shown_kind(self, row: Approval) -> str:
        return str(row.get_kind_display())

    @admin.display(description=gettext_lazy("tenant"), ordering="tenant_id")
    def shown_tenant(self, row: Approval) -> str:
        return row.tenant_id or _("all")

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def shown_status(self, row: Approval) -> SafeString:
        return _badge(row)

    def _row(self, request: HttpRequest, approval_id: UUID) -> Approval:
        row = self.get_queryset(request).filter(pk=approval_id).first()
        if row is None or not self.has_view_permission(request):
            raise Http404
        if request.method != "POST":
            raise PermissionDenied
        return row

    def _decide(
        self, request: HttpRequest, approval_id: UUID, service: Callable[..., Approval], done: str
    ) -> HttpResponse:
        row = self._row(request, approval_id)
        given = {"digest": request.POST.get("digest", ""), "note": request.POST.get("note", "")}
        return self._do(request, row, lambda: service(approval_id=row.pk, user=request.user, **given), done)

    def _do(self, request: HttpRequest, row: Approval, service: Callable[[], object], done: str) -> HttpResponse:
        try:
            service()
        except SeoGenError as error:
            messages.error(request, str(error))
        else:
            if done:
                messages.success(request, done)
        return HttpResponseRedirect(approval_url(row))


def approval_url(row: Approval) -> str:
    return reverse("admin:tenants_approval_change", args=[row.pk])


def _decides(request: HttpRequest, row: Approval) -> bool:
    return may_approve(request.user, row) and not is_requester(request.user, row)


def _badge(row: Approval) -> SafeString:
    if row.status in OPEN and row.expires_at <= timezone.now():
        return as_badge(_("expired"), "warning")
    return as_badge(row.get_status_display(), APPROVAL_COLORS[ApprovalStatus(row.status)])


def _consequences(row: Approval) -> list[str]:
    """Return what the requested operation would do, or why that cannot be found out, as lines of text."""
    given = row.arguments
    match row.kind:
        case ApprovalKind.DELETE:
            try:
                return loss_lines(tenant_loss(tenant_id=row.tenant_id))
            except SeoGenError as error:
                return [str(error)]
        case ApprovalKind.EXPORT:
            target = (
                _("All data of tenant %(id)s is written to standard output.")
                if given["output"] == STANDARD
                else _("All data of tenant %(id)s is written to %(file)s.")
            )
            recipient = given.get("recipient")
            return [
                target % {"id": row.tenant_id, "file": given["output"]},
                _("Encrypted to: %(recipient)s") % {"recipient": recipient}
                if recipient
                else _("The export is not encrypted."),
            ]
        case ApprovalKind.PRICE:
            return _price_lines(given)
    copied = _("Every other tenant gets these prompts of tenant %(id)s and uses them in its new runs:")
    return [copied % {"id": given["from"]}, *(f"{one['step']} v{one['version']}" for one in given["prompts"])]


def _price_lines(given: dict[str, Any]) -> list[str]:
    now: dict[str, Any] = given.get("replaces", {})
    new: dict[str, Any] = given["prices"]
    changes = [
        f"{unit_name(unit)}: {now.get(unit, '-')} → {new.get(unit, '-')}"
        for unit in sorted({*now, *new})
        if now.get(unit) != new.get(unit)
    ]
    named = {"model": given["model"], "day": given["valid_from"]}
    return [_("Prices of %(model)s from %(day)s, in USD per 1,000 tokens:") % named, *changes]


def _arguments(row: Approval) -> str:
    return json.dumps(row.arguments, ensure_ascii=False, indent=2, sort_keys=True)


def _links(request: HttpRequest, row: Approval) -> list[SafeString]:
    links = []
    made = OperationRequest.objects.filter(approval_id=row.pk).first()
    if made is not None:
        links.append(as_link(operation_url(made), _("Operation")))
    preview = preview_of(row.arguments["preview"]) if row.arguments.get("preview") else None
    if preview is not None:
        links.append(as_link(report_url(preview), _("Preview")))
    if row.tenant_id and request.user.has_perm("tenants.view_tenant"):
        links.append(as_link(reverse("admin:tenants_tenant_change", args=[row.tenant_id]), _("Tenant")))
    return links


# -- starting what staff requested; an operator passes the approval to the command ---


def _start_operation(kind: RequestKind) -> Callable[[HttpRequest, Approval], str]:
    def start(request: HttpRequest, row: Approval) -> str:
        made = operation_request(
            user=request.user,
            kind=kind,
            tenant_id=row.tenant_id,
            arguments=row.arguments,
            reason=row.reason,
            approval_id=row.pk,
        )
        return operation_url(made)

    return start


def _start_price(request: HttpRequest, row: Approval) -> str:
    model = _model(row.arguments)
    if model is None or not request.user.has_perm("llm.set_prices"):
        raise PermissionDenied
    with approval_given(row.pk), transaction.atomic(using="default"):
        prices_set(
            model=model,
            prices=ModelPrices.from_document(row.arguments["prices"]),
            valid_from=date.fromisoformat(row.arguments["valid_from"]),
            note=row.reason,
        )
    return reverse("admin:llm_llmmodel_change", args=[model.pk])


def _start_copy(request: HttpRequest, row: Approval) -> str:
    """Request the copy that the preview showed; the preview is one of the approved arguments."""
    preview = preview_of(row.arguments.get("preview", ""))
    if preview is None:
        raise InvalidOperation(
            _("The preview of this copy no longer exists."), hint=_("Preview the copy again, and ask for approval.")
        )
    made = operation_request(
        user=request.user,
        kind=RequestKind.PROMPT_COPY,
        tenant_id=preview.tenant_id,
        arguments=copy_arguments(preview),
        reason=row.reason,
        approval_id=row.pk,
    )
    return operation_url(made)


def _model(given: dict[str, Any]) -> LLMModel | None:
    return LLMModel.objects.filter(pk=given["model_id"]).first()


STARTS: dict[str, Callable[[HttpRequest, Approval], str]] = {
    ApprovalKind.DELETE: _start_operation(RequestKind.DELETE),
    ApprovalKind.EXPORT: _start_operation(RequestKind.EXPORT),
    ApprovalKind.COPY_ALL: _start_copy,
    ApprovalKind.PRICE: _start_price,
}
