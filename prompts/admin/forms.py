"""Forms for a prompt's versions. Errors from services' checks are shown next to their fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from config.site.admin_base import IndentedJSONField
from llm.selectors import pipeline
from prompts.app_hooks import past_runs
from prompts.content import (
    MAX_NOTE_CHARS,
    clean_content,
    clean_note,
    disagreement,
    normalised,
    undeclared_sentence,
    unused_sentence,
)
from prompts.errors import PromptError
from prompts.models import Prompt
from prompts.rendering import declared_variables
from tenants.routing.context import current_alias

CODE = {"class": "seo-gen-code", "spellcheck": "false"}


class TemplateField(forms.CharField):
    """Normalizes a template as `prompt_create` does, so that an unedited one is unchanged."""

    def to_python(self, value: Any) -> Any:
        return normalised(super().to_python(value) or "")


def _content() -> forms.CharField:
    return TemplateField(
        label=gettext_lazy("Template"),
        # Leading and trailing blank lines are part of the template.
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={**CODE, "rows": 22}),
        help_text=gettext_lazy("A Jinja2 template. In the field below, declare the names that it uses."),
    )


def _variables() -> forms.JSONField:
    return IndentedJSONField(
        label=gettext_lazy("Variables"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={**CODE, "rows": 10}),
        help_text=gettext_lazy('A JSON list such as [{"name": "keyword", "type": "string", "required": true}].'),
    )


def _note() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Note"),
        max_length=MAX_NOTE_CHARS,
        widget=UnfoldAdminTextInputWidget(),
        help_text=gettext_lazy("What this version changes, and why."),
    )


class VersionFields(forms.Form):
    """Runs the checks of `prompt_create` in the form, so that each error is shown next to its field."""

    def clean_content(self) -> str:
        content: str = self.cleaned_data["content"]
        with _shown_as_error():
            return clean_content(content)

    def clean_variables(self) -> Any:
        variables = self.cleaned_data["variables"]
        with _shown_as_error():
            declared_variables(variables)
        return variables

    def clean_note(self) -> str:
        note: str = self.cleaned_data["note"]
        with _shown_as_error():
            return clean_note(note)

    def clean(self) -> Any:
        cleaned = super().clean()
        if "content" in self.cleaned_data and "variables" in self.cleaned_data:
            self._compare(self.cleaned_data["content"], self.cleaned_data["variables"])
        return cleaned

    def _compare(self, content: str, variables: object) -> None:
        try:
            found = disagreement(content, variables)
        except PromptError as error:
            self.add_error("content", str(error))
            return
        if found.undeclared:
            self.add_error("content", undeclared_sentence(found.undeclared))
        if found.unused:
            self.add_error("variables", unused_sentence(found.unused))


class DraftForm(VersionFields, forms.ModelForm):  # type: ignore[type-arg]
    content = _content()
    variables = _variables()
    note = _note()

    class Meta:
        model = Prompt
        fields = ("content", "variables", "note")


class NewVersionForm(VersionFields):
    step = forms.ChoiceField(label=gettext_lazy("Step"), widget=UnfoldAdminSelectWidget)
    content = _content()
    variables = _variables()
    note = _note()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = [step.step for step in pipeline()]
        others = Prompt.objects.exclude(step__in=steps).values_list("step", flat=True).distinct().order_by("step")
        self.fields["step"].choices = [(step, step) for step in [*steps, *others]]  # type: ignore[attr-defined]


class TryForm(forms.Form):
    """The values to try a version with."""

    run = forms.ChoiceField(label=gettext_lazy("Values from a run"), required=False, widget=UnfoldAdminSelectWidget)
    inputs = IndentedJSONField(
        label=gettext_lazy("Other values"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={**CODE, "rows": 6}),
        help_text=gettext_lazy(
            'A JSON object such as {"keyword": "coffee grinder"}. These values take precedence over those of the run.'
        ),
    )

    def __init__(self, *args: Any, shows_runs: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        runs = past_runs().newest(alias=current_alias()) if shows_runs else []
        choices = [("", _("none")), *((run.id, run.label) for run in runs)]
        self.fields["run"].choices = choices  # type: ignore[attr-defined]

    def clean_inputs(self) -> dict[str, object]:
        inputs = self.cleaned_data["inputs"]
        if inputs is None:
            return {}
        if not isinstance(inputs, dict):
            raise ValidationError(_("Enter a JSON object whose keys are names of variables."))
        return inputs


class CompareForm(forms.Form):
    """Two versions of a step's prompt; each is chosen by its id."""

    old = forms.ChoiceField(label=gettext_lazy("Compare version"), widget=UnfoldAdminSelectWidget)
    new = forms.ChoiceField(label=gettext_lazy("With version"), widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, versions: list[Prompt], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("old", "new"):
            self.fields[name].choices = [(str(one.pk), _choice(one)) for one in versions]  # type: ignore[attr-defined]


def _choice(prompt: Prompt) -> str:
    note = note_of(prompt)
    return f"v{prompt.version}: {note}" if note else f"v{prompt.version}"


def note_of(prompt: Prompt) -> str | None:
    """Return a version's note, or None. The note of the default prompts is stored in English and translated here."""
    note = prompt.note
    return _(note) if note else None


@contextmanager
def _shown_as_error() -> Iterator[None]:
    """Turn the app's errors into form errors."""
    try:
        yield
    except PromptError as error:
        raise ValidationError(str(error)) from error
