"""Admin pages for LLM providers, and what they share with those for models."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.errors import SeoGenError, joined
from config.site.admin_base import NO_TENANT, StaffAdmin, action, finished
from llm.check import llm_check
from llm.clients.base_urls import without_credentials
from llm.clients.registry import require_callable
from llm.errors import ForeignKeyVariable, InvalidKeyVariable, LLMError, MissingKeyVariable
from llm.in_use import require_provider_unused
from llm.keys import key_of
from llm.models import LLMProvider
from llm.types import ProviderAccess, ProviderCheck

# Part of routes and addresses, so short and plain.
PROVIDER_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
OF_KEY_VARIABLE = (InvalidKeyVariable, MissingKeyVariable, ForeignKeyVariable)
# Columns of providers and of models.
LIMITS = ("max_concurrent_calls", "requests_per_minute", "tokens_per_minute")
LIMITS_HELP = gettext_lazy(
    "These limits apply to all workers together; steps wait until a call may start. Leave a field empty for no limit. A"
    " change takes effect after a few seconds."
)


class LimitsForm(forms.ModelForm):  # type: ignore[type-arg]
    """Refuses a limit below 1, with which no call would ever start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in LIMITS:
            if name in self.fields:
                self._require_at_least_one(self.fields[name])

    def _require_at_least_one(self, field: Any) -> None:
        # The column's own validators come with it: 0 would be allowed, and a negative number refused with two messages.
        field.min_value = 1
        field.widget.attrs["min"] = 1
        field.validators = [one for one in field.validators if not isinstance(one, MinValueValidator)]
        field.validators.append(
            MinValueValidator(1, gettext_lazy("A limit must be at least 1. Leave the field empty for no limit."))
        )


class LLMProviderForm(LimitsForm):
    """Refuses a provider that could never be called, and an address to which its key may not be sent."""

    class Meta:
        help_texts: ClassVar = {
            "id": gettext_lazy("Lower-case letters, digits, - and _, such as openrouter. It cannot be changed later."),
            "wire": gettext_lazy("The API that the server speaks."),
            "api_base_url": gettext_lazy(
                "Base URL of the server: https://host for Anthropic and Gemini, https://host/v1 for OpenAI and"
                " compatible servers. A host other than the vendor's must be listed in LLM_ALLOWED_HOSTS. Leave empty"
                " to use the vendor's own server or, for the provider local without a key variable, LOCAL_LLM_URL."
            ),
            "key_variable": gettext_lazy(
                "The environment variable that holds the key, such as OPENROUTER_API_KEY; never the key itself. Leave"
                " empty for a server without keys."
            ),
        }

    def clean_id(self) -> str:
        provider_id: str = self.cleaned_data["id"]
        if not PROVIDER_ID.fullmatch(provider_id):
            raise ValidationError(
                _("Use at most 40 lower-case letters, digits, - and _, starting with a letter or digit.")
            )
        return provider_id

    def clean_api_base_url(self) -> str | None:
        return (self.cleaned_data["api_base_url"] or "").strip() or None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        # The list edits other columns only.
        if (cleaned.get("id") or self.instance.pk) and "wire" in cleaned:
            self._require_callable(cleaned)
        return cleaned

    def _require_callable(self, cleaned: dict[str, Any]) -> None:
        access = ProviderAccess(
            cleaned.get("id") or self.instance.pk,
            cleaned["wire"],
            cleaned.get("api_base_url"),
            cleaned.get("key_variable") or "",
        )
        try:
            require_callable(access)
        except OF_KEY_VARIABLE as error:
            raise ValidationError({"key_variable": str(error)}) from error
        except LLMError as error:
            raise ValidationError({"api_base_url": str(error)}) from error


class RefusesDeletion(StaffAdmin):
    """Says in one sentence why a row that is in use cannot be deleted."""

    def require_unused(self, row: Any) -> None:
        """Raise a `SeoGenError` if the row is in use."""
        raise NotImplementedError

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        row = self.get_object(request, object_id)
        if row is not None and self.has_delete_permission(request, row):
            try:
                self.require_unused(row)
            except SeoGenError as error:
                messages.error(request, str(error))
                page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
                return HttpResponseRedirect(reverse(page, args=[object_id]))
        return super().delete_view(request, object_id, extra_context)


class LLMProviderAdmin(RefusesDeletion):
    audit_noun = "llm.provider"
    tenant_path = NO_TENANT
    # Changing a URL or a key back does not hide which key was sent where.
    audit_values = ("id", "display_name", "wire", "api_base_url", "key_variable", "is_active", *LIMITS)
    actions_detail = ("check_provider",)
    form = LLMProviderForm
    list_display = ("id", "display_name", "wire", "api_base_url", "key", "is_active")
    list_editable = ("is_active",)
    fieldsets = (
        (None, {"fields": ("id", "display_name", "wire", "api_base_url", "key_variable", "is_active")}),
        (gettext_lazy("Limits"), {"fields": LIMITS, "description": LIMITS_HELP}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # Models, the pipeline and finished steps refer to it.
        return ("id",) if obj else ()

    def audit_value(self, name: str, value: Any) -> object:
        return without_credentials(value) if name == "api_base_url" else value

    def require_unused(self, row: LLMProvider) -> None:
        require_provider_unused(row)

    def has_check_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Return whether the person may make the test call, which may cost money."""
        return request.user.has_perm("llm.check_provider")

    @action(
        description=gettext_lazy("Check"),
        permissions=["check"],
        dialog={
            "title": gettext_lazy("Make a test call?"),
            "description": gettext_lazy(
                "This server asks the provider's cheapest active model for one word, which costs a few tokens."
            ),
            "form_submit_text": gettext_lazy("Check"),
        },
    )
    def check_provider(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        try:
            (check,) = llm_check(provider_id=object_id)
        except LLMError as error:
            messages.error(request, str(error))
        else:
            _say(request, check)
        return finished(request, reverse("admin:llm_llmprovider_change", args=[object_id]))

    @admin.display(description=gettext_lazy("key on this server"))
    def key(self, provider: LLMProvider) -> str:
        """Return in words whether the web server has the key; workers have environments of their own."""
        if not provider.key_variable:
            return _("not needed")
        try:
            key_of(provider.pk, provider.key_variable)
        except LLMError:
            return _("%(variable)s is missing or invalid") % {"variable": provider.key_variable}
        return _("set")


def _say(request: HttpRequest, check: ProviderCheck) -> None:
    if not check.works:
        messages.error(request, joined(check.message, check.hint))
        return
    shown = {"id": check.provider_id, "model": check.model_name, "seconds": check.seconds}
    messages.success(
        request,
        _(
            "Provider %(id)s works: model %(model)s answered in %(seconds).1f s (tokens: input %(input)s, output"
            " %(output)s)."
        )
        % {**shown, "input": check.input_tokens, "output": check.output_tokens},
    )
