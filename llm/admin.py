"""Providers, models with their prices, and the pipeline, as staff configure them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.admin_base import StaffAdmin
from llm.errors import LLMError
from llm.models import StepLLMDefault
from llm.selectors import resolve_model


class LLMProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_api_base_url(self) -> str | None:
        url: str | None = self.cleaned_data["api_base_url"] or None
        if url is not None:
            # Hosts such as "llm" or "localhost:8080" are fine inside a private network; a missing scheme is not.
            if not url.startswith(("http://", "https://")) or any(character.isspace() for character in url):
                raise ValidationError(_("Enter an address that begins with http:// or https://."))
            if "@" in url:
                raise ValidationError(_("Leave the credentials out: keys come from the environment alone."))
        return url


class LLMProviderAdmin(StaffAdmin):
    audit_noun = "llm.provider"
    form = LLMProviderForm
    list_display = ("id", "display_name", "api_base_url", "is_active")
    list_editable = ("is_active",)
    fields = ("id", "display_name", "api_base_url", "is_active")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # The id names the wire protocol, and finished steps point to it by name.
        return ("id",) if obj else ()


class LLMModelAdmin(StaffAdmin):
    audit_noun = "llm.model"
    list_display = (
        *("model_name", "provider", "model_class", "cost_per_1k_input_tokens", "cost_per_1k_output_tokens"),
        "is_active",
    )
    list_editable = ("cost_per_1k_input_tokens", "cost_per_1k_output_tokens", "is_active")
    list_filter = ("provider", "model_class", "is_active")
    list_select_related = ("provider",)
    search_fields = ("model_name",)
    fieldsets = (
        (None, {"fields": ("provider", "model_name", "model_class", "is_active")}),
        (
            gettext_lazy("Prices"),
            {
                "fields": ("cost_per_1k_input_tokens", "cost_per_1k_output_tokens"),
                "description": gettext_lazy(
                    "In US dollars. Steps that ran keep the prices of their time. An empty price is unknown, not 0."
                ),
            },
        ),
        (gettext_lazy("Limits"), {"fields": ("max_output_tokens", "context_window")}),
    )


class StepLLMDefaultForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a routing that no run could use."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        provider, model_class = cleaned.get("provider"), cleaned.get("model_class")
        if provider and model_class:
            try:
                resolve_model(provider.pk, model_class)
            except LLMError as error:
                raise ValidationError(str(error)) from error
        return cleaned


class StepLLMDefaultAdmin(StaffAdmin):
    """The pipeline. Providers are switched right in the list."""

    audit_noun = "step_default"
    form = StepLLMDefaultForm
    list_display = ("step", "position", "provider", "model_class", "model_now")
    list_editable = ("position", "provider", "model_class")
    list_select_related = ("provider",)
    ordering = ("position", "step")
    fields = ("step", "position", "provider", "model_class")

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{**kwargs, "form": StepLLMDefaultForm})

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # Prompts and finished runs name the step.
        return ("step",) if obj else ()

    @admin.display(description=gettext_lazy("model of a run started now"))
    def model_now(self, default: StepLLMDefault) -> str:
        try:
            return resolve_model(default.provider_id, default.model_class).model_name
        except LLMError as error:
            return str(error)
