"""Admin pages for a tenant's prompts: list versions, add new ones, activate one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from config.base.errors import SeoGenError
from config.site.admin_base import (
    IndentedJSONField,
    StaffAdmin,
    action,
    as_badge,
    as_code,
    as_json,
    finished,
    form_page,
)
from llm.selectors import pipeline
from prompts.content import clean_content, normalised
from prompts.errors import InvalidPrompt, PromptError
from prompts.models import Prompt
from prompts.rendering import declared_variables
from prompts.services import prompt_activate, prompt_create
from tenants.routing.context import current_alias

CODE = {"class": "seo-gen-code", "spellcheck": "false"}


class TemplateField(forms.CharField):
    """Normalises a template as it is stored, so that a template submitted without edits counts as unchanged."""

    def to_python(self, value: Any) -> Any:
        return normalised(super().to_python(value) or "")


def _content() -> forms.CharField:
    return TemplateField(
        label=gettext_lazy("Template"),
        # Leading and trailing blank lines are part of the template.
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={**CODE, "rows": 22}),
        help_text=gettext_lazy("Jinja2. Declare the names it uses below."),
    )


def _variables() -> forms.JSONField:
    return IndentedJSONField(
        label=gettext_lazy("Variables"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={**CODE, "rows": 10}),
        help_text=gettext_lazy('A list such as [{"name": "keyword", "type": "string", "required": true}].'),
    )


class TemplateFields(forms.Form):
    """Runs the checks of `prompt_create` too, so that each error is shown next to its field."""

    def clean_content(self) -> str:
        content: str = self.cleaned_data["content"]
        with _shown_as_error():
            return clean_content(content)

    def clean_variables(self) -> Any:
        variables = self.cleaned_data["variables"]
        with _shown_as_error():
            declared_variables(variables)
        return variables


class DraftForm(TemplateFields, forms.ModelForm):  # type: ignore[type-arg]
    content = _content()
    variables = _variables()

    class Meta:
        model = Prompt
        fields = ("content", "variables")


class NewVersionForm(TemplateFields):
    step = forms.ChoiceField(label=gettext_lazy("Step"), widget=UnfoldAdminSelectWidget)
    content = _content()
    variables = _variables()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = [step.step for step in pipeline()]
        others = Prompt.objects.exclude(step__in=steps).values_list("step", flat=True).distinct().order_by("step")
        self.fields["step"].choices = [(step, step) for step in [*steps, *others]]  # type: ignore[attr-defined]


class PromptAdmin(StaffAdmin):
    """A version can be edited while it is a draft: never used by a run, and not active."""

    audit_noun = "prompt"
    form = DraftForm
    list_display = ("step", "version", "shown_state", "used_at", "created_at")
    list_display_links = ("step", "version")
    list_filter = ("step", "is_active")
    search_fields = ("content",)
    actions = None
    actions_detail = ("activate", "copy")
    readonly_fields = (
        *("step", "version", "shown_state", "shown_content", "shown_variables", "used_at", "created_at"),
    )

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or is_draft(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not request.user.has_perm("prompts.change_prompt"):
            return False
        return request.method == "POST" or Prompt.objects.filter(pk=object_id, is_active=False).exists()

    def has_copy_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.has_add_permission(request)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        editable = obj is not None and self.has_change_permission(request, obj)
        template = ("content", "variables") if editable else ("shown_content", "shown_variables")
        return ((None, {"fields": (("step", "version", "shown_state"), ("used_at", "created_at"), *template)}),)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Add the next version of a step's prompt, starting from the version `?from=<id>`."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewVersionForm(request.POST or None, initial=_initial(request.GET.get("from", "")))
        if request.method == "POST" and form.is_valid():
            prompt = _create(form)
            if prompt is not None:
                messages.success(request, _("%(prompt)s was created; activate it to use it.") % {"prompt": prompt})
                return HttpResponseRedirect(_page(prompt.pk))
        return form_page(
            self,
            request,
            form,
            title=_("New version of a prompt"),
            submit=_("Create"),
            explanation=_(
                "It stays a draft until it is activated. Runs in progress keep the version they started with."
            ),
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save a draft, unless it stopped being one while it was being edited."""
        stored = Prompt.objects.using(current_alias()).select_for_update().get(pk=obj.pk)
        if not is_draft(stored):
            raise InvalidPrompt(
                _("%(prompt)s is no longer a draft; create a new version.") % {"prompt": stored},
                code="prompt_not_draft",
            )
        super().save_model(request, obj, form, change)

    def audit_details(self, obj: Any) -> dict[str, object]:
        digest = hashlib.sha256(obj.content.encode()).hexdigest()
        return {"step": obj.step, "version": obj.version, "content_digest": digest}

    @action(
        description=gettext_lazy("Activate"),
        permissions=["activate"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Activate this version?"),
            "description": gettext_lazy("New runs will use it. Runs in progress keep the version they started with."),
            "form_submit_text": gettext_lazy("Activate"),
        },
    )
    def activate(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        try:
            prompt = prompt_activate(alias=current_alias(), prompt_id=int(object_id))
        except SeoGenError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("New runs now use %(prompt)s.") % {"prompt": prompt})
        return finished(request, _page(object_id))

    @action(description=gettext_lazy("New version from this"), permissions=["copy"])
    def copy(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse('admin:prompts_prompt_add')}?from={int(object_id)}")

    @admin.display(description=gettext_lazy("state"), ordering="is_active")
    def shown_state(self, prompt: Prompt) -> SafeString:
        if prompt.is_active:
            return as_badge(_("active"), "success")
        return as_badge(_("draft"), "warning") if is_draft(prompt) else as_badge(_("used before"), "info")

    @admin.display(description=gettext_lazy("template"))
    def shown_content(self, prompt: Prompt) -> SafeString:
        return as_code(prompt.content)

    @admin.display(description=gettext_lazy("variables"))
    def shown_variables(self, prompt: Prompt) -> SafeString | None:
        return as_json(prompt.variables)


@contextmanager
def _shown_as_error() -> Iterator[None]:
    """Turn the app's errors into form errors."""
    try:
        yield
    except PromptError as error:
        raise ValidationError(str(error)) from error


def is_draft(prompt: Any) -> bool:
    """Return whether the version can still be edited."""
    return prompt.used_at is None and not prompt.is_active


def _create(form: NewVersionForm) -> Prompt | None:
    given = form.cleaned_data
    try:
        return prompt_create(
            alias=current_alias(), step=given["step"], content=given["content"], variables=given["variables"]
        )
    except SeoGenError as error:
        form.add_error(None, str(error))
        return None


def _initial(prompt_id: str) -> dict[str, Any]:
    prompt = Prompt.objects.filter(pk=prompt_id).first() if prompt_id.isdecimal() else None
    return {"step": prompt.step, "content": prompt.content, "variables": prompt.variables} if prompt else {}


def _page(prompt_id: object) -> str:
    return reverse("admin:prompts_prompt_change", args=[prompt_id])
