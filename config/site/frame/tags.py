"""Template tags of the frame (`{% load seo_gen %}`)."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import RequestContext
from django.utils.text import capfirst

from config.base.output import dollars
from config.site.admin_base import coded
from config.site.frame.rows import row_context
from config.site.navigation import sidebar
from runs.models import Run, RunCost, Step
from tenants.models import Approval, MigrationBatch, OperationRequest

register = template.Library()
Part = dict[str, Any]


@register.simple_tag(takes_context=True)
def breadcrumb(context: RequestContext, parts: list[Part]) -> list[Part]:
    """Return the theme's breadcrumb with the menu's names, and without the app, which the menu does not show.

    Rows are shown as `name_of` returns them: an id, for example, is not capitalized. If no part is in the menu, only
    the last part is returned. Titles of pages are not capitalized either: they may begin with a name.
    """

    entries = {item["link"]: item["title"] for group in sidebar(context["request"]) for item in group["items"]}
    models = [part for part in parts[1:] if str(part.get("link", "")) in entries]
    if not models:
        return [_capitalized(part) if "link" in part else part for part in parts[-1:]]
    known = models[0]
    rest = parts[parts.index(known) + 1 :]
    return [
        {**known, "title": entries[str(known["link"])]},
        *({**part, "title": name_of(part["title"])} for part in rest),
    ]


@register.inclusion_tag("admin/change_list_results.html", takes_context=True)
def list_rows(context: RequestContext, cl: Any) -> Part:
    """Write a list's headers and rows."""
    request = context["request"]
    shared = {"request": request, "actions_row": context.get("actions_row")}
    return {**row_context(cl), **shared, "has_add_permission": cl.model_admin.has_add_permission(request)}


register.filter("dollars", dollars)
register.filter("coded", coded)


@register.filter
def name_of(row: object) -> str:
    """Return the name that people know a row by: a run's keyword, or else the row's `str`.

    The names of requested operations, approvals and batches are capitalized.
    """
    if isinstance(row, (OperationRequest, Approval, MigrationBatch)):
        # They call themselves by what is done.
        return capfirst(str(row))
    if isinstance(row, RunCost):
        return name_of(row.run)
    if isinstance(row, Step):
        return f"{name_of(row.run)} · {row.step}"
    keyword = row.config.get("keyword") if isinstance(row, Run) and isinstance(row.config, dict) else None
    return str(keyword or row)


def _capitalized(part: Part) -> Part:
    return {**part, "title": capfirst(str(part["title"]))}
