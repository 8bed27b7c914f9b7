"""Write prompts. The text of a version that a run has pinned never changes; activation only selects another version."""

import hashlib
import re
from collections.abc import Iterable, Sequence

from django.db import connections, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from audit.log.safe_search_path import catalog_only
from prompts.content import check_agreement, clean_content, clean_note, require_agreement
from prompts.errors import InvalidPrompt, NoPreviousVersion, UnknownPrompt
from prompts.models import Prompt
from prompts.rendering import declared_variables
from prompts.selectors import active_prompts, known_name, previous_version
from prompts.types import NAME_PATTERN
from prompts.validation import shown


def prompt_create(
    *, alias: str, step: str, content: str, variables: Sequence[dict[str, object]] | None, note: str
) -> Prompt:
    """Add and return the next version of a step's prompt; it stays inactive until `prompt_activate`.

    `variables` holds `PromptVariable` documents; `note` says what the version changes, and why. Raises `InvalidPrompt`
    if the step name, the template, a declaration or the note is invalid, `PromptMismatch` if the template and the
    declarations disagree, and `SandboxUnavailable` if the template cannot be checked now.
    """
    if not re.fullmatch(NAME_PATTERN, step):
        raise InvalidPrompt(
            _("%(step)s is not a step name: use at most 63 lower-case letters, digits and _, and start with a letter.")
            % {"step": shown(step)}
        )
    content, note = clean_content(content), clean_note(note)
    declared = [variable.model_dump(mode="json", exclude_unset=True) for variable in declared_variables(variables)]
    require_agreement(content, declared)
    with transaction.atomic(using=alias):
        lock_prompts(alias)
        latest = Prompt.objects.using(alias).filter(step=step).aggregate(latest=Max("version"))["latest"]
        prompt = Prompt.objects.using(alias).create(
            step=step,
            version=(latest or 0) + 1,
            content=content,
            variables=declared,
            is_active=False,
            author=current_actor().user_id,
            note=note,
        )
        _record(alias, "prompt.create", prompt)
    return prompt


def prompt_create_active(
    *, alias: str, step: str, content: str, variables: Sequence[dict[str, object]] | None, note: str
) -> Prompt:
    """Add a version, activate it in the same transaction, and return it. Raises what `prompt_create` raises."""
    with transaction.atomic(using=alias):
        prompt = prompt_create(alias=alias, step=step, content=content, variables=variables, note=note)
        return prompt_activate(alias=alias, prompt_id=prompt.pk)


def prompt_activate(*, alias: str, prompt_id: int) -> Prompt:
    """Activate a version and return it; new runs use it for its step.

    Raises `UnknownPrompt`, `PromptMismatch` if the template uses an undeclared name or does not use a declared one
    (people fill in the inputs according to the declaration), `InvalidPrompt` if the template or a declaration is not
    valid, or `SandboxUnavailable` if that cannot be checked now. Runs that pinned another version keep it.
    """
    with transaction.atomic(using=alias):
        prompt = _locked(alias, prompt_id)
        check_agreement(prompt)
        versions = Prompt.objects.using(alias).filter(step=prompt.step)
        previous = versions.filter(is_active=True).first()
        if previous == prompt:
            return prompt
        versions.filter(is_active=True).update(is_active=False, replaced_at=Now())
        versions.filter(pk=prompt.pk).update(is_active=True)
        _record(alias, "prompt.activate", prompt, previous_version=previous.version if previous else None)
    prompt.is_active = True
    return prompt


def prompt_activate_previous(*, alias: str, step: str) -> Prompt:
    """Activate and return the version that was active before the step's current one; a second call switches back.

    Raises `NoPreviousVersion`, `UnknownPrompt` if the step has no active prompt, or what `prompt_activate` raises.
    """
    with transaction.atomic(using=alias):
        lock_prompts(alias)
        if not active_prompts(alias=alias, steps=[known_name(step)]):
            raise UnknownPrompt(_("Step %(step)s has no active prompt.") % {"step": shown(step)})
        previous = previous_version(alias=alias, step=step)
        if previous is None:
            raise NoPreviousVersion(
                _("No other version of step %(step)s was active before.") % {"step": step},
                hint=_("Choose a version with --version; `seo-gen prompt list` shows the versions."),
                page_hint=_("Activate a version on its page; “Prompts” lists them."),
            )
        return prompt_activate(alias=alias, prompt_id=previous.pk)


def prompt_deactivate(*, alias: str, prompt_id: int) -> None:
    """Deactivate a version, which leaves its step without an active prompt. Raises `UnknownPrompt`.

    For the undo of a copy to a tenant whose step had no active prompt.
    """
    with transaction.atomic(using=alias):
        prompt = _locked(alias, prompt_id)
        Prompt.objects.using(alias).filter(pk=prompt.pk).update(is_active=False, replaced_at=Now())
        _record(alias, "prompt.deactivate", prompt)


def prompt_mark_used(*, alias: str, prompt_ids: Iterable[int]) -> None:
    """Record that a run has pinned these versions; from now on the database refuses changes to their text."""
    Prompt.objects.using(alias).filter(pk__in=list(prompt_ids), used_at__isnull=True).update(used_at=Now())


def lock_prompts(alias: str) -> None:
    """Block other writers, but not readers, until the transaction ends.

    Locks the whole table: a step's first version has no row to lock, tenants' roles may not take advisory locks
    (config/stack/roles.sql), and writers are rare.
    """
    with catalog_only(connections[alias]), connections[alias].cursor() as cursor:
        cursor.execute("LOCK TABLE public.prompts IN SHARE ROW EXCLUSIVE MODE")


def content_digest(content: str) -> str:
    """Return the sha256 of a template, as audit entries have it."""
    return hashlib.sha256(content.encode()).hexdigest()


def _locked(alias: str, prompt_id: int) -> Prompt:
    """Lock all prompts, so that two activations never run at the same time; return this one. Raises `UnknownPrompt`."""
    lock_prompts(alias)
    prompt = Prompt.objects.using(alias).filter(pk=prompt_id).first()
    if prompt is None:
        raise UnknownPrompt(_("There is no prompt %(id)s.") % {"id": prompt_id})
    return prompt


def _record(alias: str, action: str, prompt: Prompt, **details: object) -> None:
    digest = content_digest(prompt.content)
    record(
        using=alias,
        action=action,
        resource_type="prompt",
        resource_id=str(prompt.pk),
        details={"step": prompt.step, "version": prompt.version, "content_digest": digest, **details},
    )
