"""Template tags of the frame (`{% load seo_gen %}`)."""

from __future__ import annotations

import re
from typing import Any

from django import template
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.template import RequestContext
from django.template.base import Parser, Token
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from config.base.output import dollars
from config.site.admin_base import coded
from config.site.frame.rows import row_context
from config.site.navigation import active_entry
from runs.admin.cells import count
from runs.models import Run, RunCost, Step
from tenants.models import Approval, MigrationBatch, OperationRequest

register = template.Library()
Part = dict[str, Any]
AFTER_FULL_STOP = re.compile(r"(?<=。)\s+")


@register.inclusion_tag("admin/breadcrumb.html", takes_context=True)
def breadcrumb(context: RequestContext) -> Part:
    """Write the path to a page: its menu entry, its row, and its title unless the page is the entry's or the row's own.

    Rows are shown as `name_of` returns them, and titles of pages as they are: nothing is capitalized here.
    """
    request, row = context["request"], _row(context)
    page = {"title": str(context.get("title") or "")}
    entry = active_entry(request)
    if entry is None:
        return {"parts": [page]}
    parts = [{"title": entry["title"], "link": entry["link"]}]
    if row is not None:
        parts.append({"title": name_of(row), "link": _url_of(row)})
    is_list = "cl" in context and page["title"] == _title_of(context["cl"])
    is_entry = row is None and (is_list or capfirst(page["title"]) == entry["title"])
    is_row = row is not None and request.path.endswith("/change/")
    return {"parts": parts if is_entry or is_row else [*parts, page]}


@register.inclusion_tag("admin/change_list_results.html", takes_context=True)
def list_rows(context: RequestContext, cl: Any) -> Part:
    """Write a list's headers and rows."""
    request = context["request"]
    shared = {"request": request, "actions_row": context.get("actions_row")}
    return {**row_context(cl), **shared, "has_add_permission": cl.model_admin.has_add_permission(request)}


@register.simple_tag(takes_context=True)
def back_to_list(context: RequestContext) -> str:
    """Return the words of the link from a page to its list, which is named as in the menu if it has an entry there."""
    entry = active_entry(context["request"])
    name = entry["title"] if entry else capfirst(str(context["opts"].verbose_name_plural))
    return _("Back to %(list)s") % {"list": name}


@register.simple_tag(takes_context=True)
def back_url(context: RequestContext) -> str:
    """Return the URL of the list, or of another entry of the menu, that a page belongs to.

    Return "" if the page belongs to none, or is the entry's own.
    """
    entry = active_entry(context["request"])
    return "" if entry is None or entry["link"] == context["request"].path else str(entry["link"])


@register.simple_tag
def all_rows_url(cl: Any) -> str:
    """Return the URL of a list without the conditions that a link set and no filter shows; "" if there are none."""
    shown = {name for spec in cl.filter_specs for name in spec.expected_parameters()}
    unseen = [name for name in cl.get_filters_params() if name not in shown]
    return str(cl.get_query_string(remove=unseen)) if unseen else ""


@register.tag
def sentences(parser: Parser, token: Token) -> SentencesNode:
    """Write the content of the block without the white space after Japanese full stops, as `joined` does."""
    inside = parser.parse(("endsentences",))
    parser.delete_first_token()
    return SentencesNode(inside)


class SentencesNode(template.Node):
    def __init__(self, inside: template.NodeList) -> None:
        self.inside = inside

    def render(self, context: template.Context) -> SafeString:
        # Escaped already; white space is all that is taken away.
        return mark_safe(AFTER_FULL_STOP.sub("", self.inside.render(context)))


register.filter("dollars", dollars)
register.filter("coded", coded)
register.filter("thousands", count)


def _title_of(cl: Any) -> str:
    return capfirst(str(cl.opts.verbose_name_plural))


def _row(context: RequestContext) -> Model | None:
    """Return the row that the page is about; None if there is no such row."""
    found = (context.get("original"), context.get("object"))
    return next((one for one in found if isinstance(one, Model)), None)


def _url_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])


@register.filter
def name_of(row: object) -> str:
    """Return the name that people know a row by: a run's keyword, or else the row's `str`.

    A run's cost has the run's name, and a step has that and its own. The names of requested operations, approvals and
    batches are capitalized.
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
