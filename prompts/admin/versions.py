"""Admin pages for a tenant's prompts: list, add, edit, activate, roll back, compare, try, copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext
from unfold.enums import ActionVariant

from audit.log.actor import current_actor
from config.base.errors import SeoGenError
from config.base.output import dollars
from config.site.admin_base import StaffAdmin, action, as_badge, as_code, finished, form_page, is_action
from config.site.documents import as_document
from prompts.admin.copies import choose_page, report_page
from prompts.admin.forms import DraftForm, NewVersionForm, note_of
from prompts.admin.pages import compare_page, try_page
from prompts.app_hooks import past_runs
from prompts.errors import InvalidPrompt
from prompts.models import Prompt
from prompts.selectors import previous_version
from prompts.services import (
    content_digest,
    prompt_activate,
    prompt_activate_previous,
    prompt_create,
    prompt_create_active,
)
from prompts.types import UNUSED, VersionUsage
from tenants.models import RequestKind
from tenants.requests.request import may
from tenants.routing.context import current_alias, current_tenant

# The attribute of a version that holds its `VersionUsage`.
USAGE = "version_usage"
ACTIVATE = "_activate"
# The descriptions of the default prompts' variables, which migrations store in English. Those of customers' own are
# shown as they are.
DESCRIPTIONS = (
    gettext_noop("For whom the article is."),
    gettext_noop("How the article should sound."),
    gettext_noop("The company that publishes the article, and how it writes."),
    gettext_noop("The search keyword."),
    gettext_noop("What a reviewer wants changed. The run supplies it."),
    gettext_noop("What the earlier step wrote."),
    gettext_noop("ja or en."),
)


class PromptAdmin(StaffAdmin):
    """The pages of versions. A version can be edited while it is a draft: never used by a run, and not active."""

    audit_noun = "prompt"
    # Content: an entry holds the version and the template's digest.
    audit_hidden = ("content", "variables", "note")
    form = DraftForm
    list_display = (
        "step",
        "version",
        "shown_state",
        "author",
        "shown_note",
        "used",
        "failed",
        "mean_cost",
        "created_at",
    )
    list_display_links = ("step", "version")
    list_filter = ("step", "is_active")
    search_fields = ("step", "content", "note")
    search_help_text = gettext_lazy("Step, or part of the template or the note")
    actions = None
    actions_list = ("copy_all_to_tenants",)
    actions_detail = ("activate", "roll_back", "compare", "try_out", "copy", "copy_to_tenants")
    actions_submit_line = ("save_and_activate",)
    readonly_fields = (
        *("step", "version", "shown_state", "shown_content", "shown_variables", "shown_note", "usage"),
        *("author", "used_at", "created_at"),
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        page.result_list = _with_usage(page.result_list)
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Prompt | None:
        prompt: Prompt | None = super().get_object(request, object_id, from_field)
        return _with_usage([prompt])[0] if prompt else None

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or is_draft(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Return whether to offer "Activate": for used versions that are not active.

        A draft's form has "Save and activate" instead. The action itself needs only the permission.
        """
        if not request.user.has_perm("prompts.change_prompt"):
            return False
        used = Prompt.objects.filter(pk=object_id, is_active=False, used_at__isnull=False)
        return is_action(request) or used.exists()

    def has_roll_back_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not request.user.has_perm("prompts.change_prompt"):
            return False
        if is_action(request):
            return True
        active = Prompt.objects.filter(pk=object_id, is_active=True).first()
        return active is not None and previous_version(alias=current_alias(), step=active.step) is not None

    def has_save_and_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not request.user.has_perm("prompts.change_prompt"):
            return False
        # Without an id when the action is called, which is after the draft was saved.
        draft = Prompt.objects.filter(pk=object_id, is_active=False, used_at__isnull=True)
        return object_id is None or draft.exists()

    def has_try_out_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("prompts.change_prompt"))

    def has_compare_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_copy_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.has_add_permission(request)

    def has_copy_to_tenants_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return may(request.user, RequestKind.PROMPT_COPY, current_tenant().id)

    def get_custom_urls(self) -> Any:
        return (("copies/<uuid:request_id>/", "prompts_copy_report", self.copy_report),)

    def copy_report(self, request: HttpRequest, request_id: UUID, model_admin: object) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return report_page(self, request, request_id)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        editable = obj is not None and self.has_change_permission(request, obj)
        shown = ("content", "variables", "note") if editable else ("shown_content", "shown_variables", "shown_note")
        head = (("step", "version", "shown_state"), ("author", "created_at", "used_at"), "usage")
        return ((None, {"fields": (*head, *shown)}),)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Add the next version of a step's prompt; `?from=<id>` names a version to start from."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewVersionForm(request.POST or None, initial=_initial(request.GET.get("from", "")))
        may_activate = request.user.has_perm("prompts.change_prompt")
        if request.method == "POST" and form.is_valid():
            prompt = _create(form, activate=ACTIVATE in request.POST and may_activate)
            if prompt is not None:
                messages.success(request, _created(prompt))
                return HttpResponseRedirect(_page(prompt.pk))
        return form_page(
            self,
            request,
            form,
            title=_("New version of a prompt"),
            submit=_("Create"),
            explanation=_(
                "The version stays a draft until it is activated. Existing runs keep the versions that they were"
                " created with."
            ),
            other_submit=(ACTIVATE, _("Create and activate")) if may_activate else None,
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save a draft; raise `InvalidPrompt` if it stopped being one while it was being edited."""
        stored = Prompt.objects.using(current_alias()).select_for_update().get(pk=obj.pk)
        if not is_draft(stored):
            raise InvalidPrompt(
                _("%(prompt)s is no longer a draft; create a new version.") % {"prompt": stored},
                code="prompt_not_draft",
            )
        if form.has_changed() and stored.author != current_actor().user_id:
            obj.author = current_actor().user_id
            # For the audit entry, which names each changed column.
            form.changed_data.append("author")
        super().save_model(request, obj, form, change)

    def audit_details(self, obj: Any) -> dict[str, object]:
        return {"step": obj.step, "version": obj.version, "content_digest": content_digest(obj.content)}

    @action(
        description=gettext_lazy("Activate"),
        permissions=["activate"],
        variant=ActionVariant.PRIMARY,
        dialog={
            "title": gettext_lazy("Activate this version?"),
            "description": gettext_lazy(
                "Only new runs will use it; existing runs keep the version they were created with."
            ),
            "form_submit_text": gettext_lazy("Activate"),
        },
    )
    def activate(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        try:
            prompt = prompt_activate(alias=current_alias(), prompt_id=int(object_id))
        except SeoGenError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("%(prompt)s is now active.") % {"prompt": prompt})
        return finished(request, _page(object_id))

    @action(
        description=gettext_lazy("Roll back"),
        permissions=["roll_back"],
        dialog={
            "title": gettext_lazy("Return to the version that was active before?"),
            "description": gettext_lazy(
                "Only new runs will use it; existing runs keep the version they were created with."
            ),
            "form_submit_text": gettext_lazy("Roll back"),
        },
    )
    def roll_back(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        try:
            prompt = prompt_activate_previous(alias=current_alias(), step=_prompt(object_id).step)
        except SeoGenError as error:
            messages.error(request, str(error))
            return finished(request, _page(object_id))
        messages.success(request, _("%(prompt)s is now active.") % {"prompt": prompt})
        return finished(request, _page(prompt.pk))

    @action(description=gettext_lazy("Save and activate"), permissions=["save_and_activate"])
    def save_and_activate(self, request: HttpRequest, obj: Prompt) -> None:
        """Activate what was just saved, in the same transaction."""
        prompt = prompt_activate(alias=current_alias(), prompt_id=obj.pk)
        messages.success(request, _("%(prompt)s is now active.") % {"prompt": prompt})

    @action(description=gettext_lazy("Compare"), permissions=["compare"])
    def compare(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return compare_page(self, request, _prompt(object_id))

    @action(description=gettext_lazy("Try"), permissions=["try_out"])
    def try_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return try_page(self, request, _prompt(object_id))

    @action(description=gettext_lazy("New version from this"), permissions=["copy"])
    def copy(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(f"{reverse('admin:prompts_prompt_add')}?from={int(object_id)}")

    @action(description=gettext_lazy("Copy to tenants …"), permissions=["copy_to_tenants"])
    def copy_to_tenants(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return choose_page(self, request, _prompt(object_id))

    @action(description=gettext_lazy("Copy to tenants …"), permissions=["copy_to_tenants"], icon="content_copy")
    def copy_all_to_tenants(self, request: HttpRequest) -> HttpResponse:
        return choose_page(self, request, None)

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
        return as_document(_with_translated(prompt.variables))

    @admin.display(description=gettext_lazy("note"))
    def shown_note(self, prompt: Prompt) -> str | None:
        return note_of(prompt)

    @admin.display(description=gettext_lazy("times used"))
    def used(self, prompt: Prompt) -> int:
        return _usage_of(prompt).used

    @admin.display(description=gettext_lazy("failure rate"))
    def failed(self, prompt: Prompt) -> str | None:
        rate = _usage_of(prompt).failure_rate
        return None if rate is None else f"{rate:.0%}"

    @admin.display(description=gettext_lazy("mean cost (USD)"))
    def mean_cost(self, prompt: Prompt) -> str | None:
        cost = _usage_of(prompt).mean_cost
        return None if cost is None else dollars(cost)

    @admin.display(description=gettext_lazy("usage"))
    def usage(self, prompt: Prompt) -> SafeString | None:
        sentences = usage_sentences(_usage_of(prompt))
        return format_html_join("", "<div>{}</div>", ((one,) for one in sentences))


def _with_translated(variables: Any) -> Any:
    """Return the declared variables with the descriptions of the default prompts translated."""
    return [_translated(declared) for declared in variables] if isinstance(variables, list) else variables


def _translated(declared: Any) -> Any:
    description = declared.get("description") if isinstance(declared, dict) else None
    return {**declared, "description": _(description)} if description in DESCRIPTIONS else declared


def usage_sentences(usage: VersionUsage) -> list[str]:
    """Return sentences about how a version was used."""
    if not usage.used:
        return [_("No step has used this version yet.")]
    lines = [
        ngettext("%(n)d step has used this version.", "%(n)d steps have used this version.", usage.used)
        % {"n": usage.used}
    ]
    if usage.failure_rate is not None:
        ended = usage.completed + usage.failed
        failures = ngettext(
            "%(failed)d of %(n)d finished step failed.", "%(failed)d of %(n)d finished steps failed.", ended
        )
        lines.append(failures % {"failed": usage.failed, "n": ended})
    if usage.mean_input_tokens is not None:
        tokens = {"input": f"{usage.mean_input_tokens:,}", "output": f"{usage.mean_output_tokens or 0:,}"}
        lines.append(_("Mean tokens: %(input)s in, %(output)s out.") % tokens)
    if usage.mean_cost is not None:
        lines.append(_("Mean cost: %(cost)s.") % {"cost": _("%(amount)s USD") % {"amount": dollars(usage.mean_cost)}})
    if usage.unpriced:
        lines.append(
            ngettext("The cost of %(n)d step is not known.", "The costs of %(n)d steps are not known.", usage.unpriced)
            % {"n": usage.unpriced}
        )
    return lines


def _with_usage(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return the versions, each with its `VersionUsage` as an attribute; the usage is read for all of them at once."""
    found = list(prompts)
    usage = past_runs().usage(alias=current_alias(), prompt_ids=[prompt.pk for prompt in found])
    for prompt in found:
        setattr(prompt, USAGE, usage.get(prompt.pk, UNUSED))
    return found


def _usage_of(prompt: Prompt) -> VersionUsage:
    usage: VersionUsage = getattr(prompt, USAGE, UNUSED)
    return usage


def is_draft(prompt: Any) -> bool:
    """Return whether the version can still be edited."""
    return prompt.used_at is None and not prompt.is_active


def _created(prompt: Prompt) -> str:
    if prompt.is_active:
        return _("%(prompt)s is now active.") % {"prompt": prompt}
    return _("%(prompt)s was created as a draft.") % {"prompt": prompt}


def _create(form: NewVersionForm, *, activate: bool) -> Prompt | None:
    given = form.cleaned_data
    save = prompt_create_active if activate else prompt_create
    try:
        return save(
            alias=current_alias(),
            step=given["step"],
            content=given["content"],
            variables=given["variables"],
            note=given["note"],
        )
    except SeoGenError as error:
        form.add_error(None, str(error))
        return None


def _initial(prompt_id: str) -> dict[str, Any]:
    prompt = Prompt.objects.filter(pk=prompt_id).first() if prompt_id.isdecimal() else None
    return {"step": prompt.step, "content": prompt.content, "variables": prompt.variables} if prompt else {}


def _prompt(prompt_id: str) -> Prompt:
    prompt = Prompt.objects.using(current_alias()).filter(pk=prompt_id).first()
    if prompt is None:
        raise Http404
    return prompt


def _page(prompt_id: object) -> str:
    return reverse("admin:prompts_prompt_change", args=[prompt_id])
