"""Read prompts."""

from collections.abc import Iterable

from prompts.models import Prompt


def active_prompts(*, alias: str, steps: Iterable[str]) -> dict[str, Prompt]:
    """Return the active prompt of each step that has one, by step."""
    return {prompt.step: prompt for prompt in Prompt.objects.using(alias).filter(step__in=list(steps), is_active=True)}
