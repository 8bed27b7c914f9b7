"""The rows of a list, written exactly as the theme writes them, but with what all rows share computed once.

The theme computes the headers of all columns again for each row, and renders each checkbox from a template. On a page
of fifty rows, this takes as long as everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_list import result_hidden_fields
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import lookup_field
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db.models import DateField, ForeignKey, Model, TimeField
from django.urls import NoReverseMatch
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin, checkbox
from unfold.templatetags.unfold_list import CHECKBOX_CLASSES, LINK_CLASSES, ROW_CLASSES, result_headers, results
from unfold.utils import display_for_field, display_for_value

CHECKBOX = "action_checkbox"
# The theme shows the value of a column with one of these attributes in its own way.
THEME_ONLY = ("label", "header", "dropdown")
# Stands for a row's key in what all checkboxes have in common. No key contains it, and escaping leaves it alone.
KEY = "\N{REPLACEMENT CHARACTER}"

# Returns what a row's cell contains, before it is escaped and linked, and whether it is a date or a time.
Show = Callable[[Any], tuple[str, bool]]


@dataclass(frozen=True)
class Row:
    instance: Model
    form: Any
    cells: SafeString
    # How many columns the cells span.
    size: int


@dataclass(frozen=True)
class Column:
    show: Show
    # The start tag, that of a cell with a date or a time, and the end tag.
    opening: str
    opening_of_time: str
    closing: str
    is_linked: bool


def row_context(cl: Any) -> dict[str, Any]:
    """Return the template context for the headers and rows of a changelist."""
    headers = list(result_headers(cl))
    return {
        "cl": cl,
        "result_hidden_fields": list(result_hidden_fields(cl)),
        "result_headers": headers,
        "num_sorted_fields": sum(bool(header["sortable"] and header["sorted"]) for header in headers),
        "results": list(_rows(cl, headers) if _is_plain(cl) else _theme_rows(cl)),
        "is_reorderable": getattr(cl, "is_reorderable", False),
        "ordering_field": cl.model_admin.ordering_field,
        "list_sections": getattr(cl.model_admin, "list_sections", ()),
    }


def _is_plain(cl: Any) -> bool:
    """Return whether the list has nothing that only the theme's own code can write, such as editable rows."""
    attributes = [getattr(cl.model_admin, name, None) for name in cl.list_display if isinstance(name, str)]
    special = any(getattr(one, name, False) for one in attributes for name in THEME_ONLY)
    return not (getattr(cl, "formset", None) or cl.is_popup or cl.model_admin.ordering_field or special)


def _theme_rows(cl: Any) -> Iterator[Row]:
    for cells in results(cl):
        # The theme has escaped them.
        yield Row(cells.instance, cells.form, mark_safe("".join(cells)), len(cells))


def _rows(cl: Any, headers: list[Any]) -> Iterator[Row]:
    columns = list(_columns(cl, headers))
    link = _Link(cl)
    for row in cl.result_list:
        link.begin(row)
        cells = "".join(_cell(column, row, link) for column in columns)
        yield Row(row, None, mark_safe(cells), len(columns))


def _cell(column: Column, row: Model, link: _Link) -> str:
    shown, is_time = column.show(row)
    text = conditional_escape(shown)
    opening = column.opening_of_time if is_time else column.opening
    return f"{opening}{link.around(text) if column.is_linked else text}{column.closing}"


class _Link:
    """The link to a row's page, which several columns may share."""

    def __init__(self, cl: Any) -> None:
        self._cl = cl
        self._context = {"preserved_filters": cl.preserved_filters, "opts": cl.opts}
        self._query: str | None = None
        self._row: Model | None = None
        self._start: str | None = None

    def begin(self, row: Model) -> None:
        self._row, self._start = row, None

    def around(self, text: str) -> str:
        if self._start is None:
            self._start = self._opening()
        return f"{self._start}{text}</a>" if self._start else text

    def _opening(self) -> str:
        try:
            url: str = self._cl.url_for_result(self._row)
        except NoReverseMatch:
            return ""
        if self._query is None:
            # The list's filters, which are the same in the link of each row.
            self._query = add_preserved_filters(self._context, url).removeprefix(url)
        return format_html('<a href="{}" class="{}" >', url + self._query, " ".join(LINK_CLASSES))


def _columns(cl: Any, headers: list[Any]) -> Iterator[Column]:
    links, has_link = cl.list_display_links, False
    for number, name in enumerate(cl.list_display):
        is_linked = links is not None and ((not has_link and not links) or name in links)
        tag = "th" if is_linked and not has_link else "td"
        has_link = has_link or is_linked
        label = headers[number]["text"] if is_linked or number else _("Select record")
        classes = [f"field-{_name_of(name, number)}", *ROW_CLASSES]
        show, always_time = _show(cl.model_admin, name)
        if name == CHECKBOX:
            classes = CHECKBOX_CLASSES
        openings = [
            f'<{tag} class="{" ".join(given)}" data-label="{conditional_escape(label)}">'
            for given in (classes, [*classes, "nowrap"])
        ]
        yield Column(show, openings[always_time], openings[True], f"</{tag}>", is_linked)


def _show(admin: Any, name: Any) -> tuple[Show, bool]:
    """Return the function that shows a row's value in a column, and whether every cell is kept on one line."""
    empty = admin.get_empty_value_display()
    try:
        field = admin.opts.get_field(name)
    except FieldDoesNotExist:
        field = None
    if name == CHECKBOX and getattr(type(admin), CHECKBOX) is getattr(ModelAdmin, CHECKBOX):
        return _shown_checkbox(), False
    if field is not None and field.name == name and field.concrete and not field.auto_created:
        return _shown_field(field, empty), isinstance(field, (DateField, TimeField, ForeignKey))
    if field is None and isinstance(name, str) and hasattr(admin, name) and name != "__str__":
        return _shown_method(getattr(admin, name), empty), False
    return _shown_other(admin, name, empty), False


def _shown_checkbox() -> Show:
    before, _key, after = checkbox.render(ACTION_CHECKBOX_NAME, KEY).partition(KEY)

    def show(row: Model) -> tuple[str, bool]:
        return mark_safe(f"{before}{conditional_escape(str(row.pk))}{after}"), False

    return show


def _shown_field(field: Any, empty: str) -> Show:
    def show(row: Model) -> tuple[str, bool]:
        try:
            value = getattr(row, field.name)
        except ObjectDoesNotExist:
            return empty, False
        if field.many_to_one or field.one_to_one:
            return empty if value is None else value, False
        return display_for_field(value, field, empty), False

    return show


def _shown_method(method: Any, empty: str) -> Show:
    own_empty = getattr(method, "empty_value_display", empty)
    is_boolean = getattr(method, "boolean", False)

    def show(row: Model) -> tuple[str, bool]:
        try:
            value = method(row)
        except ObjectDoesNotExist:
            return empty, False
        return display_for_value(value, own_empty, is_boolean), isinstance(value, (date, time))

    return show


def _shown_other(admin: Any, name: Any, empty: str) -> Show:
    def show(row: Model) -> tuple[str, bool]:
        try:
            _field, attribute, value = lookup_field(name, row, admin)
        except ObjectDoesNotExist:
            return empty, False
        own_empty, is_boolean = getattr(attribute, "empty_value_display", empty), getattr(attribute, "boolean", False)
        return display_for_value(value, own_empty, is_boolean), isinstance(value, (date, time))

    return show


def _name_of(name: Any, number: int) -> str:
    """Return a column's name as its CSS class contains it, like Django's `_coerce_field_name`."""
    if callable(name):
        return str(getattr(name, "__name__", number))
    return str(name)
