"""Write prompts. A version that a run has pinned never changes; activating a version only moves the pointer."""

import hashlib
import re
from collections.abc import Iterable, Sequence

from django.db import connections, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.entries import record
from audit.log.safe_search_path import catalog_only
from prompts.content import clean_content
from prompts.errors import InvalidPrompt, PromptMismatch, UnknownPrompt
from prompts.models import Prompt
from prompts.rendering import declared_variables, undeclared, unused
from prompts.types import NAME_PATTERN
from prompts.validation import shown


def prompt_create(*, alias: str, step: str, content: str, variables: Sequence[dict[str, object]] | None) -> Prompt:
    """Add the next version of a step's prompt; it stays inactive until `prompt_activate`.

    `variables` holds `PromptVariable` documents. Raises `InvalidPrompt` if the step name, the template's syntax or a
    declaration is wrong. `prompt_activate` checks that the template and the declarations agree.
    """
    if not re.fullmatch(NAME_PATTERN, step):
        raise InvalidPrompt(
            _("%(step)s is not a step name: use lower-case letters, digits and _, and start with a letter.")
            % {"step": shown(step)}
        )
    content = clean_content(content)
    declared = [variable.model_dump(mode="json", exclude_unset=True) for variable in declared_variables(variables)]
    with transaction.atomic(using=alias):
        _lock_prompts(alias)
        latest = Prompt.objects.using(alias).filter(step=step).aggregate(latest=Max("version"))["latest"]
        prompt = Prompt.objects.using(alias).create(
            step=step, version=(latest or 0) + 1, content=content, variables=declared, is_active=False
        )
        _record(alias, "prompt.create", prompt)
    return prompt


def prompt_activate(*, alias: str, prompt_id: int) -> Prompt:
    """Make a version the one that new runs of its step use.

    Raises `PromptMismatch` if the template uses an undeclared name, or does not use a declared one: people fill in the
    inputs according to the declaration. Runs that pinned another version keep it.
    """
    with transaction.atomic(using=alias):
        prompt = _locked(alias, prompt_id)
        check_agreement(prompt)
        versions = Prompt.objects.using(alias).filter(step=prompt.step)
        previous = versions.filter(is_active=True).first()
        if previous == prompt:
            return prompt
        versions.filter(is_active=True).update(is_active=False)
        versions.filter(pk=prompt.pk).update(is_active=True)
        _record(alias, "prompt.activate", prompt, previous_version=previous.version if previous else None)
    prompt.is_active = True
    return prompt


def prompt_mark_used(*, alias: str, prompt_ids: Iterable[int]) -> None:
    """Record that a run has pinned these versions; from now on the database refuses changes to them."""
    Prompt.objects.using(alias).filter(pk__in=list(prompt_ids), used_at__isnull=True).update(used_at=Now())


def check_agreement(prompt: Prompt) -> None:
    """Raise `PromptMismatch` if the template's names and the declared ones differ."""
    variables = declared_variables(prompt.variables)
    strangers, idle = undeclared(prompt.content, variables), unused(prompt.content, variables)
    if strangers and idle:
        message = _(
            "Prompt %(id)d (%(prompt)s) cannot be used: it uses %(undeclared)s without declaring it and declares"
            " %(unused)s without using it."
        )
    elif strangers:
        message = _("Prompt %(id)d (%(prompt)s) cannot be used: it uses %(undeclared)s without declaring it.")
    elif idle:
        message = _("Prompt %(id)d (%(prompt)s) cannot be used: it declares %(unused)s without using it.")
    else:
        return
    names = {"undeclared": ", ".join(sorted(strangers)), "unused": ", ".join(sorted(idle))}
    raise PromptMismatch(message % {"id": prompt.pk, "prompt": prompt, **names})


def _locked(alias: str, prompt_id: int) -> Prompt:
    """Lock all prompts, so that two activations cannot both move the pointer, and return this one."""
    _lock_prompts(alias)
    prompt = Prompt.objects.using(alias).filter(pk=prompt_id).first()
    if prompt is None:
        raise UnknownPrompt(_("There is no prompt %(id)s.") % {"id": prompt_id})
    return prompt


def _lock_prompts(alias: str) -> None:
    """Block other writers, but not readers, until the transaction ends.

    Locks the whole table: a step's first version has no row to lock, tenants' roles may not take advisory locks
    (config/stack/roles.sql), and writers are rare.
    """
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute("LOCK TABLE public.prompts IN SHARE ROW EXCLUSIVE MODE")


def _record(alias: str, action: str, prompt: Prompt, **details: object) -> None:
    digest = hashlib.sha256(prompt.content.encode()).hexdigest()
    record(
        using=alias,
        action=action,
        resource_type="prompt",
        resource_id=str(prompt.pk),
        details={"step": prompt.step, "version": prompt.version, "content_digest": digest, **details},
    )
