"""Pages for copying prompts to other tenants: choose versions, check the preview, copy, and undo the copy.

Workers run the preview, the copy and the undo (`tenants.requests`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from config.site.admin_base import StaffAdmin, as_badge
from config.site.diffs import as_diff
from prompts.admin.copy_forms import CopyForm, FollowingForm, PreviewForm, UndoForm
from prompts.diff import unified_diff
from prompts.documents import READABLE
from prompts.fleet.compare import digest_of
from prompts.models import Prompt
from prompts.selectors import active_prompts, prompt_versions
from tenants.admin.operations import operation_url, requests_visible
from tenants.admin.request_pages import Page, request_page
from tenants.models import ABOUT_SEVERAL, BatchTenant, OperationRequest, RequestKind, RequestStatus
from tenants.requests.prompt_copies import copy_made_from, is_undone
from tenants.requests.request import may
from tenants.routing.context import current_alias, current_tenant, tenant_context
from tenants.selectors import tenant_get

PER_PAGE = 50
# The pages are about no row of the site's, so their breadcrumbs have none.
NO_OBJECT = {"original": None}


def choose_page(admin: StaffAdmin, request: HttpRequest, chosen: Prompt | None) -> HttpResponse:
    """Ask which versions go to which tenants; `chosen`, or else every active version, is preselected.

    A worker makes the preview.
    """
    form = partial(
        PreviewForm,
        user=request.user,
        chosen=chosen,
        active=list(prompt_versions(alias=current_alias()).filter(is_active=True)),
    )
    page = Page(
        _("Copy prompts to tenants"),
        _("First, a preview shows what would change in each tenant. Nothing is copied before you have seen it."),
        _("Preview"),
    )
    return request_page(admin, request, form, tenant_get(current_tenant().id), page, more_context=NO_OBJECT)


def report_page(admin: StaffAdmin, request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Show what a preview, a copy or an undo changes in each tenant, and request the copy or the undo.

    The changes are read from the control database; only the difference that the URL names is read from tenants'
    databases.
    """
    row = requests_visible(request, OperationRequest.objects.using(CONTROL).filter(kind__in=ABOUT_SEVERAL))
    found = row.filter(pk=request_id, tenant_id=current_tenant().id).first()
    if found is None:
        raise Http404
    if found.status != RequestStatus.DONE:
        return HttpResponseRedirect(operation_url(found))
    context = _context(request, found)
    following = _following(request, found)
    if following is not None:
        form_class, page = following
        form = partial(form_class, before=found)
        return request_page(
            *(admin, request, form, tenant_get(found.tenant_id), page),
            template="admin/prompt_copy.html",
            more_context={**context, **NO_OBJECT},
        )
    if request.method == "POST":
        raise PermissionDenied
    common = {**admin.admin_site.each_context(request), "title": found.title, "opts": admin.opts}
    return TemplateResponse(request, "admin/prompt_copy.html", {**common, "media": admin.media, **context})


def _following(request: HttpRequest, row: OperationRequest) -> tuple[Callable[..., FollowingForm], Page] | None:
    """Return the form for what the person may do next, with its page's texts; None if there is nothing to do."""
    changed = (row.result or {})["changed"]
    if (
        row.kind != RequestKind.PROMPT_COPY
        or not changed
        or not may(request.user, RequestKind.PROMPT_COPY, row.tenant_id)
    ):
        return None
    if row.arguments["dry_run"]:
        if copy_made_from(row) is not None:
            return None
        explanation = _(
            "The versions are created and activated in each of these tenants, or in none. If anything is no longer as"
            " shown here, nothing is copied."
        )
        submit = ngettext("Copy to %(n)d tenant", "Copy to %(n)d tenants", changed) % {"n": changed}
        return CopyForm, Page(row.title, explanation, submit)
    if is_undone(row):
        return None
    explanation = _(
        "Each tenant returns to what was active before, or none does. The copied versions stay, inactive. If one of"
        " them is no longer active in its tenant, nothing is undone."
    )
    return UndoForm, Page(row.title, explanation, _("Undo this copy"), destroys=True)


def _context(request: HttpRequest, row: OperationRequest) -> dict[str, Any]:
    result = row.result or {}
    rows = BatchTenant.objects.using(CONTROL).filter(batch=UUID(result["batch"])).order_by("tenant_id")
    is_preview = bool(row.arguments.get("dry_run"))
    every = list(rows.values_list("tenant_id", "changes"))
    shown = Paginator(every, PER_PAGE).get_page(request.GET.get("page"))
    copy = copy_made_from(row) if is_preview else None
    return {
        "row": row,
        "is_preview": is_preview,
        "tenant_count": result["tenants"],
        "changed_count": result["changed"],
        "unchanged_count": result["tenants"] - result["changed"],
        "groups": _groups(every) if is_preview else [],
        "tenants": [(tenant_id, changes or []) for tenant_id, changes in shown],
        "shown": shown,
        "previous_url": f"?{urlencode({'page': shown.previous_page_number()})}" if shown.has_previous() else "",
        "next_url": f"?{urlencode({'page': shown.next_page_number()})}" if shown.has_next() else "",
        "difference": _difference(request, row, dict(every)) if is_preview else None,
        "operation_url": operation_url(row),
        "made": operation_url(copy) if copy else "",
        "undone": as_badge(_("undone"), "warning") if row.kind == RequestKind.PROMPT_COPY and is_undone(row) else "",
    }


def _groups(every: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return each distinct difference once, with the number of tenants that have it.

    Tenants whose active version of a step has the same content have the same difference.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    versions: dict[tuple[str, str], set[int]] = {}
    for tenant_id, changes in every:
        for change in changes or []:
            key = change["step"], change["before_sha256"] or ""
            counts[key] += 1
            first.setdefault(key, tenant_id)
            if change["before"]:
                versions.setdefault(key, set()).add(change["before"])
    return [
        {
            "step": key[0],
            "count": counts[key],
            "before": ", ".join(f"v{version}" for version in sorted(versions.get(key, ()))),
            "example": first[key],
            "is_new": not key[1],
            "url": _shown_url(first[key], key[0]),
        }
        for key in sorted(counts, key=lambda key: (key[0], -counts[key], key[1]))
    ]


def _shown_url(tenant_id: str, step: str) -> str:
    return f"?{urlencode({'tenant': tenant_id, 'step': step})}#difference"


def _difference(request: HttpRequest, row: OperationRequest, changes_of: dict[str, Any]) -> dict[str, Any] | None:
    """Return the difference that the URL names, or why it cannot be shown; None if it is not one of the preview's."""
    tenant_id, step = request.GET.get("tenant", ""), request.GET.get("step", "")
    change = next((one for one in changes_of.get(tenant_id) or [] if one["step"] == step), None)
    source = next((one for one in (row.result or {})["prompts"] if one["step"] == step), None)
    if change is None or source is None:
        return None
    named = {"tenant": tenant_id, "step": step}
    try:
        new = Prompt.objects.using(current_alias()).filter(step=step, version=source["version"]).first()
        with tenant_context(tenant_id, statuses=READABLE) as alias:
            old = active_prompts(alias=alias, steps=[step]).get(step)
    except SeoGenError as error:
        return {**named, "problem": str(error)}
    is_as_shown = new is not None and digest_of(new) == source["sha256"]
    if not is_as_shown or (digest_of(old) if old else None) != change["before_sha256"]:
        return {**named, "problem": _("The prompt has changed since the preview, so the difference cannot be shown.")}
    assert new is not None
    return {**named, "text": _diff(tenant_id, old, new)}


def _diff(tenant_id: str, old: Prompt | None, new: Prompt) -> SafeString:
    return as_diff(
        unified_diff(
            old,
            new,
            old_name=f"{tenant_id} {old}" if old else tenant_id,
            new_name=f"{current_tenant().id} {new}",
        )
    )
