"""The base class of all admin classes. It refuses to overwrite or delete what someone else saved in the meantime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import messages
from django.contrib.admin.utils import flatten_fieldsets, quote, unquote
from django.core.exceptions import NON_FIELD_ERRORS, FieldDoesNotExist
from django.db import router, transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from config.site.conflicts import (
    SEEN,
    Conflict,
    Digests,
    SeenFormSet,
    differences,
    digest,
    digests,
    digests_in,
    refusing,
    stored_in_words,
    stored_values,
    text_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.admin import ModelAdmin

    UnfoldModelAdmin = ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin as UnfoldModelAdmin

# Attributes of a request: the stored row, which this transaction has locked, and the conflict with it.
LOCKED = "locked_row"
CONFLICT = "conflict"


class ConflictAdmin(UnfoldModelAdmin):
    """A form's page carries digests of what it shows. What has changed since then is replaced only if saved again."""

    # Columns that the form replaces under another name.
    also_watched: ClassVar[tuple[str, ...]] = ()

    class Media:
        css: ClassVar = {"all": ("config/compared.css",)}

    change_form_before_template = "admin/seen.html"
    delete_confirmation_template = "admin/delete_with_values.html"

    def last_change(self, obj: Model) -> tuple[str, datetime] | None:
        """Return who changed the object last, and when; None if that is not known."""
        return None

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        conflict = getattr(request, CONFLICT, None)
        return refusing(form, conflict) if conflict and obj is not None else form

    def get_changelist_formset(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_formset(request, **{"formset": SeenFormSet, **kwargs})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method != "POST" or not self.list_editable or "_save" not in request.POST:
            return super().changelist_view(request, extra_context)
        alias = router.db_for_write(self.model)
        with transaction.atomic(using=alias):
            self._lock_rows(request, alias)
            return super().changelist_view(request, extra_context)

    def _changeform_view(
        self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: dict[str, Any] | None
    ) -> Any:
        if request.method == "POST" and object_id is not None:
            self._lock(request, object_id)
        return super()._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[misc]

    def _delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None) -> HttpResponse:
        if request.method == "POST" and (conflict := self._lock(request, object_id, deletes=True)):
            row: Model = getattr(request, LOCKED)
            messages.warning(request, self._not_deleted(row, conflict))
            return HttpResponseRedirect(request.get_full_path())
        response: HttpResponse = super()._delete_view(request, object_id, extra_context)  # type: ignore[misc]
        return response

    def render_change_form(  # noqa: PLR0917 - Django's signature
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if change and obj is not None and self.has_change_permission(request, obj):
            # Validation has put what was submitted into `obj`.
            row = getattr(request, LOCKED, obj)
            context["seen"] = (SEEN, text_of(self._digests(request, row)))
            conflict = getattr(request, CONFLICT, None)
            if conflict is not None:
                form = context["adminform"].form
                context["conflict"] = differences(form, row, conflict)
                if set(form.errors) <= {NON_FIELD_ERRORS}:
                    # No field has an error that could be corrected.
                    context["errors"] = None
        return super().render_change_form(request, context, add, change, form_url, obj)

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        row = context["object"]
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        context["back_url"] = reverse(page, args=[quote(row.pk)])
        context["seen"] = (SEEN, text_of(self._digests(request, row)))
        if context["perms_lacking"]:
            # Rows that have no page for deleting them: anyone who may delete this object needs no permission for them.
            named = [str(one) for one in context["protected"]]
            kinds = sorted(map(capfirst, context["perms_lacking"]))
            others = [kind for kind in kinds if not any(one.startswith(f"{kind}:") for one in named)]
            context["protected"] = [*context["protected"], *others]
            context["perms_lacking"] = []
        context["values"] = [
            (row._meta.get_field(name).verbose_name, value := stored_in_words(row, name), "\n" in value)
            for name in self._watched(request, row)
            if name not in self.also_watched
        ]
        return super().render_delete_form(request, context)

    def _lock(self, request: HttpRequest, object_id: str, *, deletes: bool = False) -> Conflict | None:
        """Lock the object until the transaction ends; note its conflict with what the page showed, and return it.

        Return None if there is no conflict. Also return None if the object is gone, or if the person may not change or
        delete it; Django then refuses the request.
        """
        alias = router.db_for_write(self.model)
        found = self.get_object(request, unquote(object_id))
        is_allowed = self.has_delete_permission if deletes else self.has_change_permission
        if found is None or not is_allowed(request, found):
            return None
        row = self.model._base_manager.using(alias).select_for_update(no_key=True).filter(pk=found.pk).first()
        if row is None:
            return None
        setattr(request, LOCKED, row)
        stored, seen = self._digests(request, row), digests_in(request.POST.get(SEEN))
        if seen == stored:
            return None
        conflict = Conflict(seen, stored, self.last_change(row))
        setattr(request, CONFLICT, conflict)
        return conflict

    def _lock_rows(self, request: HttpRequest, alias: str) -> None:
        prefix, key = "form-", f"-{self.opts.pk.name}"
        sent = [value for name, value in request.POST.items() if name.startswith(prefix) and name.endswith(key)]
        field = self.opts.pk
        keys = [field.to_python(one) for one in sent if _is_key(field, one)]
        rows = self.model._base_manager.using(alias).select_for_update(no_key=True).filter(pk__in=keys)
        list(rows.order_by("pk").values_list("pk"))

    def _digests(self, request: HttpRequest, row: Model) -> Digests:
        found = digests(stored_values(row, self._watched(request, row)))
        for inline in self.get_inline_instances(request, row):
            if inline.has_add_permission(request, row) or inline.has_change_permission(request, row):
                related = inline.get_formset(request, row)
                rows = related(instance=row, queryset=inline.get_queryset(request)).get_queryset()
                found[f"inline {inline.model._meta.label}"] = digest("inline", [_row_text(one) for one in rows])
        return found

    def _watched(self, request: HttpRequest, row: Model) -> list[str]:
        """Return the columns and many-to-many relations that the object's form replaces."""
        names = [name for name in flatten_fieldsets(self.get_fieldsets(request, row)) if _is_column(row, name)]
        read_only = self.get_readonly_fields(request, row)
        form = super().get_form(request, row, change=True)
        disabled = {name for name, field in form.base_fields.items() if field.disabled}
        return [*(name for name in names if name not in read_only and name not in disabled), *self.also_watched]

    def _not_deleted(self, row: Model, conflict: Conflict) -> str:
        if conflict.seen is None:
            return _(
                "Nothing was deleted: the form was incomplete, so it is unknown whether someone else has changed"
                " %(name)s. Check it and confirm again."
            ) % {"name": row}
        return _("Nothing was deleted: %(name)s was changed after you opened the page. Check it and confirm again.") % {
            "name": row
        }


def _is_column(row: Model, name: str) -> bool:
    try:
        field = row._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return field.concrete


def _is_key(field: Any, text: object) -> bool:
    try:
        field.to_python(text)
    except Exception:
        return False
    return True


def _row_text(row: Model) -> str:
    values = {field.name: field.value_from_object(row) for field in row._meta.concrete_fields}
    return text_of(digests(values))
