"""End a review: approve the step before which a run is waiting, or send the run back to an earlier step."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from config.base.text import is_blank
from prompts.models import Prompt
from prompts.rendering import declared_variables
from prompts.validation import is_storable, shown
from runs.config import REVIEW_COMMENT
from runs.errors import InvalidReviewComment, InvalidRunStep, RunStateConflict
from runs.models import Run, Step
from runs.services.rerun import rerun
from runs.services.transition import (
    APPROVE,
    SEND_BACK,
    continue_run,
    current_of,
    lock_run,
    lock_steps,
    record_change,
)
from runs.storage import digest_of
from tenants.lifecycle.work_mark import mark_working
from tenants.routing.context import tenant_context

MAX_COMMENT_CHARS = 4_000


def run_approve(*, tenant_id: str, run_id: UUID | str, seen: str | None = None) -> Run:
    """Approve the step before which the run is waiting, let the run continue, and return it.

    `seen` identifies the review that the person has read (`review_of`); None: whichever the run is waiting for.
    Raises `TenantError`, `UnknownRun`, `InvalidRunStep` or `RunStateConflict`.
    """
    with tenant_context(tenant_id) as alias:
        mark_working(tenant_id)
        with transaction.atomic(using=alias):
            run = lock_run(alias, run_id, APPROVE)
            _require_seen(run, seen)
            steps = lock_steps(alias, run)
            current = current_of(run, steps)
            Step.objects.using(alias).filter(pk=current.pk).update(
                approved_at=Now(), approved_by=current_actor().user_id
            )
            current.refresh_from_db(using=alias)
            continue_run(alias=alias, tenant_id=tenant_id, run=run, steps=steps, current=current)
            record_change(alias, "run.approve", run, step=current.step)
    return run


def run_send_back(
    *, tenant_id: str, run_id: UUID | str, comment: str, from_step: str | None = None, seen: str | None = None
) -> Run:
    """Run the step before the review again with a reviewer's comment, and return the run.

    With `from_step`, that earlier step and all later ones are run again. The prompt of the first step that is run again
    gets the comment as the variable `review_comment`. Approvals of the steps after it are withdrawn: the run waits for
    their reviews again. `seen` is as in `run_approve`. Raises `TenantError`, `UnknownRun`, `RunStateConflict`,
    `InvalidReviewComment`, `InvalidRunStep`, `InvalidPrompt` or `StorageError`.
    """
    text = checked_comment(comment)

    def choose(alias: str, run: Run, steps: Sequence[Step]) -> Step:
        _require_seen(run, seen)
        step = _step_to_send_back_to(run, steps, from_step)
        _require_comment_is_used(alias, step)
        return step

    return rerun(
        tenant_id=tenant_id,
        run_id=run_id,
        transition=SEND_BACK,
        action="run.send_back",
        choose=choose,
        comment=text,
        comment_digest=digest_of(text.encode()),
    )


def review_of(run: Run) -> str:
    """Return what identifies the review that a run is waiting for: the next step, and when the run was paused."""
    return f"{run.current_step} {run.paused_at.isoformat() if run.paused_at else ''}"


def _require_seen(run: Run, seen: str | None) -> None:
    """Raise `RunStateConflict` if the run has reached another review since a person read it."""
    if seen is not None and seen != review_of(run):
        raise RunStateConflict(
            _("Run %(id)s has reached another review since you opened it, so nothing was decided.") % {"id": run.pk},
            status=run.status,
            hint=_("Open the run again, and read it before you decide."),
        )


def checked_comment(comment: str) -> str:
    """Return the comment stripped; raise `InvalidReviewComment` if it is blank, too long or cannot be stored."""
    if is_blank(comment):
        raise InvalidReviewComment(_("The comment is empty."), hint=_("Say what should change."))
    if len(comment) > MAX_COMMENT_CHARS:
        raise InvalidReviewComment(
            _("The comment is longer than %(limit)d characters.") % {"limit": MAX_COMMENT_CHARS},
            hint=_("Put long instructions into the prompt."),
        )
    if not is_storable(comment):
        raise InvalidReviewComment(_("The comment contains a NUL character or an unpaired surrogate."))
    return comment.strip()


def _step_to_send_back_to(run: Run, steps: Sequence[Step], name: str | None) -> Step:
    current = current_of(run, steps)
    earlier = [step for step in steps if step.position < current.position]
    if not earlier:
        raise InvalidRunStep(
            _("Run %(id)s is waiting before its first step, %(step)s, so there is no earlier step to send it back to.")
            % {"id": run.pk, "step": current.step},
            hint=_("Approve the run or cancel it."),
        )
    if name is None:
        return earlier[-1]
    step = next((step for step in earlier if step.step == name), None)
    if step is None:
        raise InvalidRunStep(
            _("Run %(id)s cannot be sent back to step %(step)s. It can be sent back to: %(known)s.")
            % {"id": run.pk, "step": shown(name), "known": ", ".join(step.step for step in earlier)}
        )
    return step


def _require_comment_is_used(alias: str, step: Step) -> None:
    """Raise `InvalidReviewComment` unless the step's pinned prompt declares `review_comment` as a string."""
    prompt = Prompt.objects.using(alias).filter(pk=step.prompt_id).first()
    if prompt is None:
        raise InvalidReviewComment(
            _("Step %(step)s has no prompt, so a comment has no effect.") % {"step": step.step},
            code="review_comment_unused",
        )
    declared = declared_variables(prompt.variables)
    if not any(variable.name == REVIEW_COMMENT and variable.type == "string" for variable in declared):
        raise InvalidReviewComment(
            _(
                "The prompt of step %(step)s (%(prompt)s) does not declare review_comment as a string, so a comment has"
                " no effect."
            )
            % {"step": step.step, "prompt": prompt},
            hint=_(
                "Add the optional string variable review_comment in a new version of the prompt, and activate it; new"
                " runs will use it. Retry this run from the step, without a comment, or cancel it."
            ),
            code="review_comment_unused",
        )
