"""Read prompts."""

import re
from collections.abc import Iterable

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from prompts.errors import UnknownPrompt
from prompts.models import Prompt
from prompts.types import NAME_PATTERN
from prompts.validation import shown


def known_name(step: str) -> str:
    """Return the name if it is a valid step name; else "", which matches no step.

    So no query contains characters that PostgreSQL refuses.
    """
    return step if re.fullmatch(NAME_PATTERN, step) else ""


def active_prompts(*, alias: str, steps: Iterable[str]) -> dict[str, Prompt]:
    """Return the active prompts of these steps, by step; steps without one are left out."""
    return {prompt.step: prompt for prompt in Prompt.objects.using(alias).filter(step__in=list(steps), is_active=True)}


def prompt_versions(*, alias: str, step: str | None = None) -> QuerySet[Prompt]:
    """Return all versions, or one step's, by step and newest first."""
    versions = Prompt.objects.using(alias).order_by("step", "-version")
    return versions if step is None else versions.filter(step=known_name(step))


def prompt_get(*, alias: str, step: str, version: int | None = None) -> Prompt:
    """Return a version of a step's prompt, the active one if `version` is None. Raises `UnknownPrompt`."""
    versions = Prompt.objects.using(alias).filter(step=known_name(step))
    prompt = (versions.filter(is_active=True) if version is None else versions.filter(version=version)).first()
    if prompt is None and version is None:
        raise UnknownPrompt(_("Step %(step)s has no active prompt.") % {"step": shown(step)}, hint=_list_hint())
    if prompt is None:
        raise UnknownPrompt(
            _("Step %(step)s has no version %(version)d.") % {"step": shown(step), "version": version},
            hint=_list_hint(),
        )
    return prompt


def previous_version(*, alias: str, step: str) -> Prompt | None:
    """Return the version that was active before the step's current one; None if no other version was ever active."""
    replaced = Prompt.objects.using(alias).filter(step=step, is_active=False, replaced_at__isnull=False)
    return replaced.order_by("-replaced_at", "-version").first()


def _list_hint() -> str:
    return _("List the tenant's prompts with `seo-gen prompt list`.")
