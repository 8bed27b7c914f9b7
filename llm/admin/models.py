"""Admin pages for models with their prices."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from config.base.errors import SeoGenError
from config.site.admin_base import NO_TENANT
from llm.admin.providers import LIMITS, LIMITS_HELP, LimitsForm, RefusesDeletion
from llm.in_use import require_model_unused, require_no_runs
from llm.models import LLMModel
from llm.prices.by_hand import COLUMNS, columns_set
from llm.prices.import_page import PricesImport
from llm.prices.page import PricesOnPage


class LLMModelForm(LimitsForm):
    """Refuses a negative price, and a new name or provider for a model that unfinished runs use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in COLUMNS:
            if name in self.fields:
                self.fields[name].validators.append(
                    MinValueValidator(
                        0, gettext_lazy("A price must be at least 0. Leave the field empty if it is unknown.")
                    )
                )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.instance._state.adding and not {"provider", "model_name"}.isdisjoint(self.changed_data):
            self._require_no_runs()
        return cleaned

    def _require_no_runs(self) -> None:
        """Refuse the change while unfinished runs use the model, which they know by provider and name."""
        try:
            require_no_runs(LLMModel.objects.get(pk=self.instance.pk))
        except SeoGenError as error:
            raise ValidationError(str(error)) from error


class LLMModelAdmin(PricesImport, PricesOnPage, RefusesDeletion):
    audit_noun = "llm.model"
    tenant_path = NO_TENANT
    audit_values = (
        *("provider", "model_name", "model_class", "is_active", "retires_on", "max_output_tokens", "context_window"),
        *(*COLUMNS, *LIMITS),
    )
    form = LLMModelForm
    list_display = (
        *("model_name", "provider", "model_class", "cost_per_1k_input_tokens", "cost_per_1k_output_tokens"),
        "is_active",
    )
    # As the model's own order, but by columns of the list, whose headings then show it.
    ordering = ("provider", "model_class", "-id")
    list_editable = ("cost_per_1k_input_tokens", "cost_per_1k_output_tokens", "is_active")
    list_filter = ("provider", "model_class", "is_active")
    list_select_related = ("provider",)
    search_fields = ("model_name",)
    fieldsets = (
        (None, {"fields": ("provider", "model_name", "model_class", "is_active", "retires_on", "is_deprecated")}),
        (
            gettext_lazy("Prices"),
            {
                "fields": ("cost_per_1k_input_tokens", "cost_per_1k_output_tokens", "price_history"),
                "description": gettext_lazy(
                    "The current prices, in US dollars; a change takes effect today. Past steps keep the prices they"
                    " ran at. An empty price means unknown, not 0. Use “Set prices” for the other units and for later"
                    " dates."
                ),
            },
        ),
        (gettext_lazy("Limits of a call"), {"fields": ("max_output_tokens", "context_window")}),
        (gettext_lazy("Limits of all calls together"), {"fields": LIMITS, "description": LIMITS_HELP}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Return the fieldsets; a model that does not exist yet has no history, and no page on which to set prices."""
        if obj is not None:
            return super().get_fieldsets(request, obj)
        (_title, model), (prices, _fields), *limits = self.fieldsets
        names = [name for name in model["fields"] if name not in self.readonly_fields]
        help_text = gettext_lazy("In US dollars, from today. An empty price means unknown, not 0.")
        return [(None, {"fields": names}), (prices, {"fields": COLUMNS, "description": help_text}), *limits]

    # `llm prices` sets the second one.
    readonly_fields = ("price_history", "is_deprecated")

    def require_unused(self, row: LLMModel) -> None:
        require_model_unused(row)

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{**kwargs, "form": LLMModelForm})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save the model, and add its changed prices to the history as set by this person."""
        prices = {column: getattr(obj, column) for column in COLUMNS if column in form.changed_data}
        if not change:
            for column in prices:
                setattr(obj, column, None)
            super().save_model(request, obj, form, change)
        if prices:
            columns_set(model=obj, columns=prices)
        if change:
            super().save_model(request, obj, form, change)
