"""The form that starts a run: a field for each input that the tenant's prompts declare."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import escape
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from config.base.errors import SeoGenError, joined
from config.base.json_text import parse_json
from config.site.admin_base import (
    IndentedJSONField,
)
from runs.admin.cells import LANGUAGES, input_label
from runs.config import MAX_KEYWORD_CHARS, RunConfig, config_from_document
from runs.models import Run
from runs.series.inputs import COMMON, DeclaredInput, declared_inputs
from runs.services.create import run_create
from tenants.routing.context import current_alias, current_tenant

# The prefix of declared inputs, so that no prompt's variable has the name of another field.
INPUT = "input-"
# What the form asks for in addition to the declared inputs, or sets itself.
SERIES = "series_id"
OWN = (*COMMON, SERIES)


class ItemsField(forms.CharField):
    """A list of texts, one per line, or a JSON list for other items."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        if text.startswith("["):
            try:
                items = parse_json(text)
            except ValueError as error:
                raise ValidationError(_("Enter one item per line, or a JSON list.")) from error
            return items
        return [line.strip() for line in text.splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        texts = [item for item in value if isinstance(item, str) and item.strip() == item and "\n" not in item]
        if len(texts) == len(value) and not (texts and texts[0].startswith("[")):
            return "\n".join(texts)
        return json.dumps(value, ensure_ascii=False)


class YesNoField(forms.TypedChoiceField):
    """A choice of yes, no and neither; with neither, the prompt's default applies."""

    def __init__(self, **options: Any) -> None:
        choices = [("", "-"), ("true", gettext_lazy("Yes")), ("false", gettext_lazy("No"))]
        super().__init__(
            choices=choices,
            coerce=lambda value: value == "true",
            empty_value=None,
            widget=UnfoldAdminSelectWidget,
            **options,
        )

    def prepare_value(self, value: Any) -> Any:
        return {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value


class RunCreateForm(forms.Form):
    """A form with a field for each input, and a JSON field for what only a few runs need."""

    # The id of the new run, so that a form that is sent twice starts only one.
    nonce = forms.UUIDField(widget=forms.HiddenInput, required=False)
    keyword = forms.CharField(
        label=gettext_lazy("Keyword"),
        max_length=MAX_KEYWORD_CHARS,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("The search term that the article targets."),
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        choices=list(LANGUAGES.items()),
        widget=UnfoldAdminSelectWidget,
    )
    hold = forms.BooleanField(
        label=gettext_lazy("On hold"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy("A run on hold is created paused, and does not start until it is resumed."),
    )
    advanced = IndentedJSONField(
        label=gettext_lazy("Configuration (JSON)"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "seo-gen-code", "rows": 6, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "Restrict the steps, choose other models, or set a budget per run, for example:"
            ' {"steps": ["keyword_analysis", "outline"], "models": {"outline": {"provider":'
            ' "claude", "model_class": "pro"}}, "budget_usd": 2.5}.'
        ),
    )

    def __init__(self, *args: Any, inputs: list[DeclaredInput], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inputs = {one.name: one for one in inputs}
        for one in inputs:
            self.fields[INPUT + one.name] = input_field(one)
        self.order_fields(["nonce", "keyword", "language", *(INPUT + one.name for one in inputs), "hold", "advanced"])

    @property
    def is_advanced(self) -> bool:
        """Whether the collapsed part has something to show."""
        return bool(self["advanced"].value() or self["advanced"].errors)

    def clean_advanced(self) -> dict[str, Any]:
        advanced = self.cleaned_data["advanced"] or {}
        if not isinstance(advanced, dict):
            raise ValidationError(_('Enter a JSON object, such as {"budget_usd": 2.5}.'))
        for name in (*OWN, *self.inputs):
            if name == SERIES and name in advanced:
                raise ValidationError(
                    _("Remove %(name)s here: runs that are started together get it automatically.") % {"name": name}
                )
            if name in advanced:
                raise ValidationError(_("Remove %(name)s here: the rest of the form sets it.") % {"name": name})
        return advanced

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        # A run of only some steps needs only their inputs; the service knows which those are.
        if "steps" not in (given.get("advanced") or {}):
            for one in self.inputs.values():
                if one.required and _is_missing(given.get(INPUT + one.name)) and INPUT + one.name not in self.errors:
                    self.add_error(INPUT + one.name, self.fields[INPUT + one.name].error_messages["required"])
        return given

    def config(self) -> RunConfig:
        """Return the run's configuration. Raises `InvalidRunConfig` if it is invalid."""
        given = self.cleaned_data
        values = {name: given[INPUT + name] for name in self.inputs if not _is_missing(given[INPUT + name])}
        common = {name: given[name] for name in COMMON}
        return config_from_document({**given["advanced"], **values, **common})


def input_field(one: DeclaredInput) -> forms.Field:
    """Return the form field of a declared input.

    The field is optional, since a run of only some steps may not need it.
    """
    # The theme writes help texts unescaped, and this one contains a description from the prompt.
    options: dict[str, Any] = {"label": input_label(one.name), "required": False, "help_text": escape(_help_of(one))}
    if one.type == "integer":
        return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget, **options)
    if one.type == "boolean":
        return YesNoField(**options)
    if one.type == "list":
        return ItemsField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}), **options)
    return forms.CharField(strip=False, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), **options)


def start_form(*, data: Any = None, config: object = None) -> RunCreateForm:
    """Return the form for the active tenant, filled in with a past run's configuration if `config` is one."""
    inputs = declared_inputs(alias=current_alias())
    initial = {"nonce": uuid4(), **(_initial(config, inputs) if isinstance(config, dict) else {})}
    return RunCreateForm(data, inputs=inputs, initial=initial)


def start_run(form: RunCreateForm) -> tuple[Run, bool] | None:
    """Start the run, unless the same form already did; return (run, whether it is new).

    If the run is refused, add the error to the form and return None.
    """
    nonce: UUID | None = form.cleaned_data["nonce"]
    known = nonce is not None and Run.objects.using(current_alias()).filter(pk=nonce).exists()
    try:
        run = run_create(
            tenant_id=current_tenant().id, config=form.config(), hold=form.cleaned_data["hold"], run_id=nonce
        )
    except SeoGenError as error:
        form.add_error(None, str(error))
        return None
    return run, not known


def _initial(config: dict[str, Any], inputs: list[DeclaredInput]) -> dict[str, Any]:
    """Return a configuration as values of the form's fields.

    What has no field goes into the JSON, except the series, which is left out.
    """
    declared = {one.name for one in inputs}
    values = {INPUT + name: value for name, value in config.items() if name in declared}
    rest = {name: value for name, value in config.items() if name not in declared and name not in OWN}
    common = {name: config[name] for name in COMMON if name in config}
    return {**common, **values, "advanced": rest or None}


def _help_of(one: DeclaredInput) -> str:
    # The descriptions of the default prompts are stored in English.
    description = one.description
    texts = [_(description)] if description else []
    if one.required:
        texts.append(_("Required."))
    elif one.default not in (None, ""):
        texts.append(_("If empty: %(default)s.") % {"default": _shown(one.default)})
    if one.type == "list":
        texts.append(_("One item per line."))
    texts.append(_("Used by: %(steps)s.") % {"steps": ", ".join(one.steps)})
    return joined(*texts)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return _("Yes") if default else _("No")
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def _is_missing(value: object) -> bool:
    return value is None or value in ("", [])
