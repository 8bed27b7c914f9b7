"""Admin pages for LLM providers, models with their prices, and the pipeline."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget

from config.site.admin_base import StaffAdmin
from llm.clients.base_urls import without_credentials
from llm.clients.registry import PROVIDER_IDS, require_callable
from llm.errors import LLMError, UnknownProvider
from llm.models import LLMProvider, StepLLMDefault
from llm.selectors import require_routable, resolve_model


class LLMProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        # The id names the wire protocol, so only ids that a client supports are offered.
        widgets: ClassVar = {"id": UnfoldAdminSelectWidget}
        help_texts: ClassVar = {
            "api_base_url": gettext_lazy(
                "Base URL of a compatible server: https://host for claude and gemini, https://host/v1 for openai and"
                " local. The host must be listed in LLM_ALLOWED_HOSTS. Leave empty to use the provider's own server."
            )
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "id" in self.fields:
            present = set(LLMProvider.objects.using("default").values_list("pk", flat=True))
            missing = [provider_id for provider_id in PROVIDER_IDS if provider_id not in present]
            self.fields["id"].widget.choices = [(provider_id, provider_id) for provider_id in missing]
            if not missing:
                self.fields["id"].help_text = gettext_lazy("All providers that this release supports already exist.")

    def clean_id(self) -> str:
        provider_id: str = self.cleaned_data["id"]
        if provider_id not in PROVIDER_IDS:
            raise ValidationError(str(UnknownProvider(provider_id, list(PROVIDER_IDS))))
        return provider_id

    def clean_api_base_url(self) -> str | None:
        return (self.cleaned_data["api_base_url"] or "").strip() or None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        provider_id = cleaned.get("id") or self.instance.pk
        if provider_id and cleaned.get("api_base_url"):
            try:
                require_callable(provider_id, cleaned["api_base_url"])
            except LLMError as error:
                raise ValidationError({"api_base_url": str(error)}) from error
        return cleaned


class LLMProviderAdmin(StaffAdmin):
    audit_noun = "llm.provider"
    form = LLMProviderForm
    list_display = ("id", "display_name", "api_base_url", "is_active")
    list_editable = ("is_active",)
    fields = ("id", "display_name", "api_base_url", "is_active")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # The id names the wire protocol, and finished steps refer to it.
        return ("id",) if obj else ()

    def audit_change(self, form: forms.ModelForm[Any]) -> dict[str, object]:
        """Record the old and the new URL, so that changing it back does not hide where keys were sent."""
        if "api_base_url" not in form.changed_data:
            return {}
        urls = {"from": form.initial.get("api_base_url"), "to": form.cleaned_data["api_base_url"]}
        return {"api_base_url": {name: without_credentials(url) for name, url in urls.items()}}


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
                    "In US dollars. Past steps keep the prices they ran at. An empty price means unknown, not 0."
                ),
            },
        ),
        (gettext_lazy("Limits"), {"fields": ("max_output_tokens", "context_window")}),
    )


class StepLLMDefaultForm(forms.ModelForm):  # type: ignore[type-arg]
    """Rejects a routing that no run could use."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        provider, model_class = cleaned.get("provider"), cleaned.get("model_class")
        if provider and model_class:
            try:
                require_routable(provider.pk)
                resolve_model(provider.pk, model_class)
            except LLMError as error:
                raise ValidationError(str(error)) from error
        return cleaned


class StepLLMDefaultAdmin(StaffAdmin):
    """The pipeline. Providers can be changed directly in the list."""

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
        # Prompts and finished runs refer to the step by name.
        return ("step",) if obj else ()

    @admin.display(description=gettext_lazy("model for new runs"))
    def model_now(self, default: StepLLMDefault) -> str:
        try:
            return resolve_model(default.provider_id, default.model_class).model_name
        except LLMError as error:
            return str(error)
