"""Refuse to overwrite what someone else saved in the meantime.

A form carries a digest of each stored value as it was when the page was shown. Before a save, the row is locked and the
digests are compared. The digests are keyed, so they reveal nothing about a secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import JSONField, ManyToManyField, Model, QuerySet
from django.forms import BaseModelFormSet
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from config.base.json_text import parse_json
from config.base.line_diff import line_diff
from config.base.times import to_second
from config.site.diffs import as_diff

if TYPE_CHECKING:
    from datetime import datetime

    RowFormSet = BaseModelFormSet[Model, forms.ModelForm[Model]]
else:
    RowFormSet = BaseModelFormSet

# The form field that holds the digests, and its name in the management form of a list.
SEEN = "_seen"
SEEN_ROWS = "SEEN"
SALT = "config.site.conflicts"
LENGTH = 20

Digests = dict[str, str]


# Longer texts are compared line by line.
SHORT_LINES = 5


@dataclass(frozen=True)
class Difference:
    """A field whose stored value is not what was typed."""

    label: str
    stored: str
    typed: str
    # Someone else changed it after the page was shown.
    is_newer: bool

    @property
    def is_long(self) -> bool:
        return bool(self.stored and self.typed) and max(map(_line_count, (self.stored, self.typed))) > SHORT_LINES

    @property
    def by_line(self) -> SafeString:
        return as_diff(line_diff(self.stored, self.typed, old_name=_("Stored now"), new_name=_("Yours")))


@dataclass(frozen=True)
class Conflict:
    """Digests of what the page showed and of what is stored; `seen` is None if the page does not say what it showed."""

    seen: Digests | None
    stored: Digests
    # Who changed the object last, and when, if the audit log says so.
    changed_by: tuple[str, datetime] | None = None

    def is_newer(self, name: str) -> bool:
        return self.seen is not None and self.seen.get(name) != self.stored.get(name)

    def sentence(self, name: str) -> str:
        if self.seen is None:
            return _(
                "Nothing was saved: the form was incomplete, so it is unknown whether someone else has changed"
                " %(name)s. Check your values and save again."
            ) % {"name": name}
        if self.changed_by is None:
            return _(
                "Nothing was saved: %(name)s was changed after you opened this page. Your values are kept below. Save"
                " again to replace the stored values with yours."
            ) % {"name": name}
        by, at = self.changed_by
        return _(
            "Nothing was saved: %(name)s was changed after you opened this page. The audit log has an entry by %(by)s"
            " at %(at)s. Your values are kept below. Save again to replace the stored values with yours."
        ) % {"name": name, "by": by, "at": to_second(at)}


def digest(name: str, value: object) -> str:
    """Return the keyed digest of a value. Values that look the same in a form have the same digest."""
    return salted_hmac(f"{SALT}.{name}", _canonical(value), algorithm="sha256").hexdigest()[:LENGTH]


def digests(values: Mapping[str, object]) -> Digests:
    return {name: digest(name, value) for name, value in values.items()}


def stored_values(row: Model, names: Iterable[str]) -> dict[str, object]:
    """Return the stored values of these columns and many-to-many relations of a row."""
    values: dict[str, object] = {}
    for name in names:
        field = row._meta.get_field(name)
        if isinstance(field, ManyToManyField):
            values[name] = list(getattr(row, name).order_by("pk").values_list("pk", flat=True))
        else:
            values[name] = field.value_from_object(row)  # type: ignore[union-attr]
    return values


def stored_objects(row: Model, names: Iterable[str]) -> dict[str, object]:
    """Return the values of these columns of a row, and the rows of these many-to-many relations, by name."""
    many = {field.name for field in row._meta.many_to_many}
    return {name: list(getattr(row, name).all()) if name in many else getattr(row, name) for name in names}


def text_of(values: object) -> str:
    return json.dumps(values, separators=(",", ":"))


def digests_in(text: object) -> dict[str, Any] | None:
    """Return the digests that a form sent; None if it sent none, or anything but a JSON object."""
    try:
        found = parse_json(text) if isinstance(text, str) and text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def in_words(row: Model, name: str, value: object) -> str:
    """Return a stored or typed value of a column as people read it; "" if there is none."""
    field = row._meta.get_field(name)
    choices = dict(getattr(field, "flatchoices", ()) or ())
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, QuerySet):
        return ", ".join(sorted(map(str, value)))
    if isinstance(field, JSONField):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(choices.get(value, value))


def stored_in_words(row: Model, name: str) -> str:
    field = row._meta.get_field(name)
    value = getattr(row, name)
    return in_words(row, name, value.all() if isinstance(field, ManyToManyField) else value)


def differences(form: forms.ModelForm[Any], stored: Model, conflict: Conflict) -> list[Difference]:
    """Return the fields of a submitted form whose stored value differs from what was typed."""
    found = []
    for name in conflict.stored:
        if name not in form.fields or form.fields[name].disabled:
            continue
        # What does not pass validation is shown as it was typed.
        typed = form.cleaned_data[name] if name in form.cleaned_data else form[name].data
        if digest(name, typed) == conflict.stored[name]:
            continue
        label = str(form.fields[name].label or name)
        words = (stored_in_words(stored, name), in_words(stored, name, typed))
        found.append(Difference(label, *words, is_newer=conflict.is_newer(name)))
    return found


class CurrentField(forms.CharField):
    """A hidden field that always holds what is stored now, never what was submitted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=forms.HiddenInput, **options)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial


class SeenForm(forms.Form):
    """A form, such as that of a dialog, that changes stored values through a service.

    A subclass calls `add_seen` with the values as they are now, in its `__init__`. The service gets these values too,
    and compares them with the database again under its lock.
    """

    stored: Mapping[str, object]

    def add_seen(self, stored: Mapping[str, object]) -> None:
        self.stored = stored
        self.fields[SEEN] = CurrentField(initial=text_of(digests(stored)))

    def render_before_template(self) -> str:
        """Return the errors that belong to no field, as HTML. A dialog's template shows only the errors of fields."""
        context = {"errors": self.non_field_errors()}
        return render_to_string("unfold/helpers/messages/error.html", context) if context["errors"] else ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        sent = digests_in(self.data.get(self.add_prefix(SEEN)))
        conflict = Conflict(sent, digests(self.stored))
        if conflict.seen != conflict.stored:
            self._refuse(conflict)
        return cleaned

    def _refuse(self, conflict: Conflict) -> None:
        if conflict.seen is None:
            self.add_error(
                None,
                _(
                    "Nothing was saved: the form was incomplete, so it is unknown whether someone else has changed the"
                    " values. Check them and submit the form again."
                ),
            )
            return
        self.add_error(
            None,
            _(
                "Nothing was saved: the values were changed after you opened this form. Submit it again to replace them"
                " with yours."
            ),
        )
        for name in self.stored:
            if conflict.is_newer(name) and name in self.fields:
                value = _plain(self.stored[name])
                self.add_error(name, _("Stored now: %(value)s.") % {"value": value or _("nothing")})


class RefusedForm:
    """Mixed into a form whose object was changed in the meantime: refuses every change."""

    conflict: Conflict

    def _clean_form(self) -> None:
        super()._clean_form()  # type: ignore[misc]
        form: Any = self
        if form.has_changed():
            form.add_error(None, ValidationError(self.conflict.sentence(str(form.instance)), code="conflict"))


def refusing(form: type[Any], conflict: Conflict) -> type[Any]:
    """Return a form class like `form` that refuses every change because of the conflict."""
    made: Any = type(form)
    refused: type[Any] = made(form.__name__, (RefusedForm, form), {"conflict": conflict, "__module__": form.__module__})
    return refused


class SeenFormSet(RowFormSet):
    """The rows of an editable list. A row that someone else changed is refused only if it was edited here too.

    The values of a row that was not edited here are not saved, even if they differ from what is stored.
    """

    @cached_property
    def management_form(self) -> Any:
        form: Any = super().management_form
        form.fields[SEEN_ROWS] = CurrentField(initial=self._rows)
        return form

    def full_clean(self) -> None:
        super().full_clean()
        if not self.is_bound or not self.management_form.is_valid():
            return
        seen = digests_in(self.data.get(f"{self.prefix}-{SEEN_ROWS}"))
        for form in self.initial_forms:
            row = seen.get(str(form.instance.pk)) if seen is not None else None
            self._compare(form, Conflict(row if isinstance(row, dict) else None, _digests_of(form)))

    def _rows(self) -> str:
        return text_of({str(form.instance.pk): _digests_of(form) for form in self.initial_forms})

    def _compare(self, form: Any, conflict: Conflict) -> None:
        # Only a forged form names a row that does not exist; that has an error of its own.
        if form.instance._state.adding or conflict.seen == conflict.stored or not form.has_changed():
            return
        typed = {name: digest(name, form.cleaned_data.get(name)) for name in conflict.stored}
        if not form.errors and conflict.seen == typed:
            form.__dict__["changed_data"] = []
            return
        lines = [conflict.sentence(str(form.instance))]
        for one in differences(form, self._stored(form), conflict):
            values = {"field": one.label, "stored": one.stored or _("nothing"), "typed": one.typed or _("nothing")}
            lines.append(_("%(field)s: the stored value is %(stored)s, yours is %(typed)s.") % values)
        form.add_error(None, lines)

    def _stored(self, form: Any) -> Model:
        # Validation has put what was typed into the form's own instance.
        assert self.model is not None
        row: Model = self.model._base_manager.using(form.instance._state.db).get(pk=form.instance.pk)
        return row


def _digests_of(form: Any) -> Digests:
    """Return the digests of a row's stored values, which its form started with."""
    key = form.instance._meta.pk.name
    return digests({name: form.initial.get(name) for name in form.fields if name != key and name in form.initial})


def _line_count(text: str) -> int:
    return text.count("\n") + 1


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return "" if value is None else str(value)


def _canonical(value: object) -> str:
    text = ""
    if isinstance(value, (QuerySet, list, tuple)) and all(isinstance(one, (Model, int)) for one in value):
        text = text_of(sorted(str(one.pk if isinstance(one, Model) else one) for one in value))
    elif isinstance(value, Model):
        text = str(value.pk)
    elif isinstance(value, (Decimal, int)) and not isinstance(value, bool):
        text = format(Decimal(value).normalize(), "f")
    elif isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, (dict, list, tuple)):
        text = json.dumps(value, sort_keys=True, cls=DjangoJSONEncoder)
    elif value is not None:
        text = str(value)
    return text
