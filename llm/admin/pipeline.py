"""The admin page of the pipeline: which provider and model class each step uses."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextareaWidget

from config.base.errors import joined
from config.site.admin_base import NO_TENANT, StaffAdmin
from llm.errors import LLMError, MissingKey
from llm.models import StepLLMDefault
from llm.prices.retirement import retirement_text
from llm.selectors import newest_model, require_fallbacks, require_route, without_key
from llm.types import Fallback

# What a step's route consists of.
ROUTE = frozenset({"provider", "model_class", "key_at_workers"})


def _missing_key_hint() -> str:
    return _("Set it for the web server, or tick “only workers have the key” on the step's page.")


class StepLLMDefaultForm(forms.ModelForm):  # type: ignore[type-arg]
    """Rejects a changed route that cannot run; with `key_at_workers`, this server need not have its key.

    In the list, another provider clears that mark, unless a fallback needs it.
    """

    _keeps_mark = False

    class Meta:
        help_texts: ClassVar = {
            "key_at_workers": gettext_lazy(
                "Accept the provider and the fallbacks even if this server does not have their keys."
            ),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        provider, model_class = cleaned.get("provider"), cleaned.get("model_class")
        if "provider" in self.changed_data and "key_at_workers" not in self.fields:
            # The mark was about the other provider's key; it may be about a fallback's, too.
            self.instance.key_at_workers, marked = False, self.instance.key_at_workers
            fallbacks = map(Fallback.from_document, self.instance.fallbacks)
            self._keeps_mark = marked and bool(without_key(one.provider_id for one in fallbacks))
        if provider and model_class and not ROUTE.isdisjoint(self.changed_data):
            key_at_workers = cleaned.get("key_at_workers", self.instance.key_at_workers)
            try:
                require_route(provider.pk, model_class, key_at_workers=key_at_workers)
            except MissingKey as error:
                raise ValidationError(joined(error.message, _missing_key_hint())) from error
            except LLMError as error:
                raise ValidationError(str(error)) from error
        self.instance.key_at_workers |= self._keeps_mark
        return cleaned


class FallbacksField(forms.CharField):
    """A list of fallbacks, one per line, as "provider:class"."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return "\n".join(str(Fallback.from_document(document)) for document in value)

    def to_python(self, value: Any) -> Any:
        lines = [line.strip() for line in str(value or "").splitlines() if line.strip()]
        if not all(":" in line for line in lines):
            raise ValidationError(_("Each line must be a provider and a class, such as claude:pro."))
        found = dict.fromkeys(Fallback.parse(line, model_class="") for line in lines)
        return [fallback.as_document() for fallback in found]


class StepPageForm(StepLLMDefaultForm):
    """The form of a step's own page, which also has the fallbacks; in the list they cannot be changed."""

    fallbacks = FallbacksField(
        label=gettext_lazy("Fallbacks"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        required=False,
        help_text=gettext_lazy(
            "What runs on this route use instead, in this order, while the provider keeps failing, or once the model is"
            " retired or deactivated. One per line, as provider:class, such as claude:pro."
        ),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "fallbacks" in cleaned and not {"fallbacks", "key_at_workers"}.isdisjoint(self.changed_data):
            fallbacks = map(Fallback.from_document, cleaned["fallbacks"])
            try:
                require_fallbacks(fallbacks, key_at_workers=bool(cleaned.get("key_at_workers")))
            except MissingKey as error:
                self.add_error("fallbacks", joined(error.message, _missing_key_hint()))
            except LLMError as error:
                self.add_error("fallbacks", str(error))
        return cleaned


class StepLLMDefaultAdmin(StaffAdmin):
    """The pipeline. Positions, providers and model classes can be changed directly in the list."""

    audit_noun = "step_default"
    tenant_path = NO_TENANT
    audit_values = (
        *("step", "position", "provider", "model_class", "key_at_workers", "fallbacks", "review", "on_truncation"),
    )
    form = StepPageForm
    list_display = (
        *("step", "order", "position", "provider", "model_class", "model_now", "shown_fallbacks", "shown_review"),
    )
    list_editable = ("position", "provider", "model_class")
    # Rows are only moved among those of this order.
    ordering = ("position", "step")
    sortable_by = ()
    list_before_template = "admin/pipeline_help.html"
    fields = (
        *("step", "position", "provider", "model_class", "key_at_workers", "fallbacks", "review", "on_truncation"),
    )

    class Media:
        js = ("config/order.js",)

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        return columns if self.has_change_permission(request) else [name for name in columns if name != "order"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page: Any = super().get_changelist_instance(request)
        page.is_reorderable = self.has_change_permission(request)
        return page

    def get_queryset(self, request: HttpRequest) -> QuerySet[StepLLMDefault]:
        found: QuerySet[StepLLMDefault] = super().get_queryset(request)
        return found.select_related("provider").prefetch_related("provider__models")

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{**kwargs, "form": StepLLMDefaultForm})

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # Prompts and finished runs refer to the step by name.
        return ("step",) if obj else ()

    @admin.display(description=gettext_lazy("move"))
    def order(self, default: StepLLMDefault) -> SafeString:
        return render_to_string("admin/pipeline_order.html", {"step": default.step})

    @admin.display(description=gettext_lazy("fallbacks"))
    def shown_fallbacks(self, default: StepLLMDefault) -> SafeString | None:
        """Return the step's fallbacks as HTML, in order, one per line; None if it has none."""
        names = [(str(Fallback.from_document(document)),) for document in default.fallbacks]
        return format_html_join("", "<div>{}</div>", names) if names else None

    @admin.display(description=gettext_lazy("review"), boolean=True)
    def shown_review(self, default: StepLLMDefault) -> bool:
        return default.review

    @admin.display(description=gettext_lazy("model for new runs"))
    def model_now(self, default: StepLLMDefault) -> str:
        try:
            model = newest_model(default.provider, list(default.provider.models.all()), default.model_class)
        except LLMError as error:
            return str(error)
        return retirement_text(model) or model.model_name
