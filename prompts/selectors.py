"""Reading prompts."""

from collections.abc import Iterable

from django.utils.translation import gettext as _

from prompts.errors import UnknownPrompt
from prompts.models import Prompt


def prompt_get(*, alias: str, prompt_id: int) -> Prompt:
    """Return the prompt; raise `UnknownPrompt` where the tenant has none with this id."""
    prompt = Prompt.objects.using(alias).filter(pk=prompt_id).first()
    if prompt is None:
        raise UnknownPrompt(_("There is no prompt %(id)s.") % {"id": prompt_id})
    return prompt


def prompt_list(*, alias: str, step: str) -> list[Prompt]:
    """Return every version of a step's prompt, the newest first."""
    return list(Prompt.objects.using(alias).filter(step=step).order_by("-version"))


def active_prompts(*, alias: str, steps: Iterable[str]) -> dict[str, Prompt]:
    """Return the active prompt of each step that has one, by step."""
    return {prompt.step: prompt for prompt in Prompt.objects.using(alias).filter(step__in=list(steps), is_active=True)}
