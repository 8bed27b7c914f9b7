"""The admin page of a tenant's own providers, models and limits, step by step."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget

from config.site.admin_base import StaffAdmin
from llm.errors import LLMError, UnknownStep
from llm.models import ModelClass
from llm.selectors import active_providers, pipeline
from llm.types import ResolvedModel
from runs.admin.cells import count
from runs.models import StepOverride
from runs.services.plan import model_of

AS_IN_PIPELINE = gettext_lazy("as in the pipeline")
CHANGES = ("llm_provider", "model_class", "llm_model", "output_limit")


class StepOverrideForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses an override that changes nothing or that new runs could not use with this pipeline."""

    class Meta:
        help_texts: ClassVar = {
            "llm_provider": gettext_lazy("Leave empty to use the pipeline's provider."),
            "model_class": gettext_lazy("Leave empty to use the pipeline's model class."),
            "llm_model": gettext_lazy(
                "The name of one of the provider's models. It is used instead of the model of the class."
            ),
            "output_limit": gettext_lazy(
                "At most the model's own limit. If a reply reaches this limit, the call is not retried with a larger"
                " one."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "llm_provider" not in self.fields:
            return  # The page is shown to someone who may not change it.
        self._offer("llm_provider", ["", *active_providers()])
        self.fields["model_class"].widget = UnfoldAdminSelectWidget(choices=[("", AS_IN_PIPELINE), *ModelClass.choices])
        if "step" in self.fields:
            taken = set(StepOverride.objects.values_list("step", flat=True))
            self._offer("step", [row.step for row in pipeline() if row.step not in taken])
        limit = self.fields["output_limit"]
        limit.validators = [
            MinValueValidator(
                1, gettext_lazy("A limit must be at least 1. Leave the field empty to use the model's own limit.")
            )
        ]
        limit.widget.attrs["min"] = 1

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        for name in CHANGES:
            cleaned[name] = cleaned[name] or None
        override = StepOverride(**{"step": self.instance.step, **cleaned})
        if not any(getattr(override, name) for name in CHANGES):
            raise ValidationError(_("This changes nothing: enter a provider, a class, a model or a limit."))
        try:
            model = model_now(override)
        except LLMError as error:
            raise ValidationError(str(error)) from error
        if override.output_limit and override.output_limit > model.max_output_tokens:
            message = _("Enter at most %(limit)d, the output limit of model %(model)s.")
            values = {"model": model.model_name, "limit": model.max_output_tokens}
            raise ValidationError({"output_limit": message % values})
        return cleaned

    def _offer(self, name: str, values: list[str]) -> None:
        present = self.initial.get(name)
        offered = values if not present or present in values else [*values, present]
        choices = [(value, value or AS_IN_PIPELINE) for value in offered]
        self.fields[name].widget = UnfoldAdminSelectWidget(choices=choices)


class StepOverrideAdmin(StaffAdmin):
    audit_noun = "step_override"
    # These values decide what the tenant's articles cost.
    audit_values = ("step", *CHANGES)
    form = StepOverrideForm
    list_display = ("step", *CHANGES[:-1], "shown_limit", "model_used")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("step", "shown_limit") if obj else ("shown_limit",)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        if obj is None or self.has_change_permission(request, obj):
            return ("step", *CHANGES)
        return ("step", *CHANGES[:-1], "shown_limit")

    @admin.display(description=gettext_lazy("output limit (tokens)"), ordering="output_limit")
    def shown_limit(self, override: StepOverride) -> str | None:
        return count(override.output_limit)

    @admin.display(description=gettext_lazy("model for new runs"))
    def model_used(self, override: StepOverride) -> str:
        try:
            found = model_now(override)
        except LLMError as error:
            return str(error)
        return f"{found.provider_id}/{found.model_name}"


def model_now(override: StepOverride) -> ResolvedModel:
    """Return the model that new runs of the tenant use for the step with this override. Raises `LLMError`."""
    steps = pipeline()
    step = next((row for row in steps if row.step == override.step), None)
    if step is None:
        raise UnknownStep(override.step, [row.step for row in steps])
    return model_of(step, override, None)
