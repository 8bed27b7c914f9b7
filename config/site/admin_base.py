"""Base classes for the admin classes of all apps. Imports no app, since every app may import it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, Q, TextField
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import lazy
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminTextInputWidget

from config.base.errors import SeoGenError
from config.base.text import has_control_characters, strip_invisible
from config.site.conflict_admin import ConflictAdmin

if TYPE_CHECKING:
    from django.contrib.admin import TabularInline

    UnfoldTabularInline = TabularInline[Any, Any]
    F = TypeVar("F", bound=Callable[..., Any])

    def action(**options: Any) -> Callable[[F], F]: ...

else:
    from unfold.admin import TabularInline as UnfoldTabularInline
    from unfold.decorators import action

__all__ = [
    "NO_TENANT",
    "OWN_SCOPE",
    "IndentedJSONField",
    "LineField",
    "ReadOnlyAdmin",
    "ReadOnlyInline",
    "StaffAdmin",
    "action",
    "as_badge",
    "as_code",
    "as_link",
    "coded",
    "coded_lazy",
    "finished",
    "form_page",
    "is_action",
]


# Values of `StaffAdmin.tenant_path`: the rows belong to no tenant; or the class itself limits them to what a person may
# see.
NO_TENANT = ""
OWN_SCOPE = "*"


def is_action(request: HttpRequest) -> bool:
    """Return whether the request is a POST from anything but an object's change form, such as an action or a dialog."""
    match = request.resolver_match
    return request.method == "POST" and not (match and (match.url_name or "").endswith("_change"))


class LineField(forms.CharField):
    """One line of text, such as a name, an id or a URL.

    Invisible characters at its ends are removed; control characters are refused.
    """

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return strip_invisible(text) or self.empty_value if text else text

    def validate(self, value: Any) -> None:
        super().validate(value)
        if has_control_characters(value or ""):
            raise forms.ValidationError(_("This text cannot contain control characters."))


class StaffAdmin(ConflictAdmin):
    """A model in the admin. A service's refusal becomes a message; the site audits changes if `audit_noun` is set."""

    # The prefix of the model's audit actions: "llm.provider" gives "llm.provider.change". Empty if the model cannot be
    # changed here, or if its services write their own entries.
    audit_noun: ClassVar[str] = ""
    # How audit entries name the model; `audit_noun` with "_" for "." unless given.
    audit_resource: ClassVar[str] = ""

    # The lookup of the id of a row's tenant, such as "tenant_id": the control site shows a person only rows of their
    # tenants. Otherwise `NO_TENANT` or `OWN_SCOPE`. Every class on the control site must set it (`config.site.scope`).
    tenant_path: ClassVar[str | None] = None

    # The fields whose old and new values audit entries hold: plain settings. `audit_hidden` are those whose values they
    # never hold: secrets, content and personal data. A test checks that every field of a form is in one of the two.
    audit_values: ClassVar[tuple[str, ...]] = ()
    audit_hidden: ClassVar[tuple[str, ...]] = ()

    # As many rows as staff read; the theme takes a millisecond for each.
    list_per_page = 50
    compressed_fields = True
    warn_unsaved_form = True
    # The specification's TEXT columns hold names; longer fields request a text area themselves.
    formfield_overrides: ClassVar[dict[Any, Any]] = {
        TextField: {"widget": UnfoldAdminTextInputWidget, "form_class": LineField}
    }

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        widget = field.widget if field else None
        if isinstance(widget, RelatedFieldWidgetWrapper):
            # Related rows have their own pages; pop-up buttons beside every choice only clutter the form.
            widget.can_add_related = widget.can_change_related = False
            widget.can_delete_related = widget.can_view_related = False
        return field

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse filters in the URL (`?column__startswith=…`) on columns that hold secrets."""
        return _is_searchable(self.model, lookup) and super().lookup_allowed(lookup, value, request)

    def of_tenants(self, tenant_ids: Any) -> Q:
        """Return the condition for the rows of some tenants, given as a query of their ids."""
        return Q((f"{self.tenant_path}__in", tenant_ids))

    def tenant_of(self, row: Any) -> str | None:
        """Return the id of the tenant of a row. Overrides return None for a row that belongs to no single tenant."""
        found: Any = row
        for name in (self.tenant_path or "").split("__"):
            found = getattr(found, name)
        return str(found)

    def audit_names(self, request: HttpRequest, ids: Collection[str]) -> dict[str, str]:
        """Return {id: name} of objects that people know by a name. `ids` come from an audit log and may be any text.

        Called once for each list of entries. Objects that the person may not see are left out.
        """
        return {}

    def audit_details(self, obj: Any) -> dict[str, object]:
        """Return what an audit entry about `obj` holds in addition to the names of the changed fields."""
        return {}

    def audit_change(self, form: Any) -> dict[str, object]:
        """Return what else the audit entry about a change made with `form` holds."""
        return {}

    def audit_value(self, name: str, value: object) -> object:
        """Return the value of one of `audit_values` as an audit entry may hold it."""
        return value

    def audit_words(self, name: str, value: object) -> object:
        """Return a value from an audit entry as people read it: a choice by its label."""
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return value
        choices: dict[object, object] = dict(getattr(field, "flatchoices", ()) or ())
        return choices.get(value, value) if isinstance(value, str) else value

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        page: Any = super().changeform_view
        return _refusals_shown(request, lambda: page(request, object_id, form_url, extra_context))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        page: Any = super().changelist_view
        # Django's titles, such as "Select run to view", say what a list is for, but not what it is.
        titled = {"title": capfirst(str(self.opts.verbose_name_plural)), **(extra_context or {})}
        return _refusals_shown(request, lambda: page(request, titled))


def _refusals_shown(request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return the view's response. If a service refuses what was posted, reload the page with its message."""
    try:
        return view()
    except SeoGenError as error:
        if request.method != "POST":
            raise
        # The transaction was rolled back.
        messages.error(request, str(error))
        return HttpResponseRedirect(request.get_full_path())


def _is_searchable(model: type[Model], lookup: str) -> bool:
    """Return whether every field in a lookup, such as `server__name__startswith`, is searchable."""
    for part in lookup.split("__"):
        try:
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            return True  # a transform or a comparison, which Django checks itself
        if not getattr(field, "searchable", True):
            return False
        if not isinstance(field.related_model, type):
            return True
        model = field.related_model
    return True


class ReadOnlyAdmin(StaffAdmin):
    """A model that the admin's standard forms show but never change; actions may still call services."""

    warn_unsaved_form = False
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyInline(UnfoldTabularInline):
    """Related rows, shown on their parent's page but never changed there."""

    extra = 0
    max_num = 0
    can_delete = False
    hide_title = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class IndentedJSONField(forms.JSONField):
    """Indented JSON; the field is empty for None."""

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value
        if value is None:
            return ""
        text = json.dumps(value, ensure_ascii=False, indent=2)
        # Half a surrogate pair is shown as an escape, as it was typed: no page can contain the character.
        return text.encode(errors="backslashreplace").decode()


def form_page(
    admin: StaffAdmin,
    request: HttpRequest,
    form: forms.Form,
    *,
    title: str,
    submit: str,
    explanation: str = "",
    destroys: bool = False,
    other_submit: tuple[str, str] | None = None,
    back_url: str = "",
    back_text: str = "",
    row: Model | None = None,
    rows: Sequence[str] = (),
    more_rows: int = 0,
) -> TemplateResponse:
    """Return a page of the admin with a form whose POST calls a service instead of saving a model.

    The button that submits is red if the service `destroys` something. `other_submit` is a second button: its name in
    the POST, and its text. `back_url` is where "Cancel", or `back_text`, leads; the default is the model's list. `row`
    is the object that the page is about, if there is one. `rows` names what the form is about, and `more_rows` says how
    many more there are.
    """
    context = {
        **admin.admin_site.each_context(request),
        "title": title,
        "form": form,
        "submit_text": submit,
        "submit_variant": "danger" if destroys else "",
        "other_submit": other_submit,
        "explanation": explanation,
        "back_url": back_url or reverse(f"admin:{admin.opts.app_label}_{admin.opts.model_name}_changelist"),
        "back_text": back_text or _("Cancel"),
        "rows": rows,
        "more_rows": more_rows,
        "opts": admin.opts,
        "original": row,
        "media": admin.media + form.media,
    }
    return TemplateResponse(request, "admin/form_page.html", context)


def finished(request: HttpRequest, url: str) -> HttpResponse:
    """Return a redirect to `url` after a dialog's POST, which htmx, a plain browser or a script may have sent."""
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


def as_badge(text: object, color: str) -> SafeString:
    """Return a word as a badge in one of the theme's colors: default (gray), info, success, warning or danger."""
    return _badge(str(text), color)


@lru_cache(maxsize=1024)
def _badge(text: str, color: str) -> SafeString:
    # Lists have one in each row, with a few words among them; the theme's template depends on nothing else.
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": color})


def as_link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text)


def as_code(text: str) -> SafeString:
    return format_html('<pre class="seo-gen-code">{}</pre>', text)


def coded(text: object) -> SafeString:
    """Return a message as HTML, with text between backticks, such as a command, as code."""
    parts = enumerate(str(text).split("`"))
    return format_html_join("", "{}", ((format_html("<code>{}</code>", one) if n % 2 else one,) for n, one in parts))


coded_lazy = lazy(coded, SafeString)
