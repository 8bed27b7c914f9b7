"""Pages for comparing a version with another one, and for trying it out."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from config.base.output import dollars
from config.site.admin_base import StaffAdmin, as_code
from config.site.diffs import as_diff
from prompts.admin.forms import CompareForm, TryForm
from prompts.diff import unified_diff
from prompts.models import Prompt
from prompts.selectors import prompt_versions
from prompts.test import TestedPrompt, Trial, prompt_preview, prompt_test
from tenants.routing.context import current_alias, current_tenant


def compare_page(admin: StaffAdmin, request: HttpRequest, prompt: Prompt) -> HttpResponse:
    """Show the difference between two versions of a step, by default this and the one before."""
    versions = list(prompt_versions(alias=current_alias(), step=prompt.step))
    by_id = {str(one.pk): one for one in versions}
    chosen = {"old": str(_before(prompt, versions).pk), "new": str(prompt.pk)}
    chosen |= {name: request.GET[name] for name in chosen if request.GET.get(name) in by_id}
    old, new = by_id[chosen["old"]], by_id[chosen["new"]]
    difference = unified_diff(old, new, old_name=str(old), new_name=str(new))
    context = {
        "form": CompareForm(versions=versions, initial=chosen),
        "difference": as_diff(difference) if difference else None,
    }
    title = _("Compare versions of %(step)s") % {"step": prompt.step}
    return _page(admin, request, "admin/prompt_compare.html", title, context)


def try_page(admin: StaffAdmin, request: HttpRequest, prompt: Prompt) -> HttpResponse:
    """Render the version with chosen values; on request, send the text to the model and show the reply and its cost."""
    form = TryForm(request.POST or None, shows_runs=request.user.has_perm("runs.view_run"))
    context: dict[str, Any] = {"form": form, "back_url": reverse("admin:prompts_prompt_change", args=[prompt.pk])}
    if request.method == "POST" and form.is_valid():
        try:
            context |= _tried(prompt, form.cleaned_data, calls="call" in request.POST)
        except SeoGenError as error:
            form.add_error(None, str(error))
    return _page(admin, request, "admin/prompt_try.html", _("Try %(prompt)s") % {"prompt": prompt}, context)


def _before(prompt: Prompt, versions: list[Prompt]) -> Prompt:
    return next((one for one in versions if one.version < prompt.version), prompt)


def _tried(prompt: Prompt, given: dict[str, Any], *, calls: bool) -> dict[str, object]:
    chosen: dict[str, Any] = {
        "tenant_id": current_tenant().id,
        "step": prompt.step,
        "version": prompt.version,
        "run_id": given["run"] or None,
        "inputs": given["inputs"],
    }
    if calls:
        tested = prompt_test(**chosen)
        return {**_shown(tested.trial), **_result(tested)}
    return _shown(prompt_preview(**chosen))


def _shown(trial: Trial) -> dict[str, object]:
    return {
        "text": as_code(trial.text),
        "model": f"{trial.model.provider_id}/{trial.model.model_name}",
        "max_input_tokens": trial.max_input_tokens,
        "max_output_tokens": trial.model.max_output_tokens,
        "cost_limit": _money(trial.cost_limit),
    }


def _result(tested: TestedPrompt) -> dict[str, object]:
    usage = tested.reply.usage
    return {
        "output": as_code(tested.reply.text),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": _money(tested.cost),
    }


def _money(amount: Any) -> str:
    return _("unknown") if amount is None else _("%(amount)s USD") % {"amount": dollars(amount)}


def _page(
    admin: StaffAdmin, request: HttpRequest, template: str, title: str, context: dict[str, Any]
) -> TemplateResponse:
    media = admin.media + context["form"].media
    common = {**admin.admin_site.each_context(request), "title": title, "opts": admin.opts, "media": media}
    return TemplateResponse(request, template, {**common, **context})
