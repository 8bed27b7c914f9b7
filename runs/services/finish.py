"""End a claimed step: complete, retry or fail it, each in one transaction of the claim's holder.

All of them lock the run, then the step, then (through `record`) the head of the audit chain.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.log.entries import record
from llm.types import TokenUsage
from runs.errors import LeaseLost, OutputKept
from runs.models import Artifact, Run, RunStatus, Step, StepStatus
from runs.output import article_name, decode, encode, same_question, summary_of
from runs.services.wake import rewake_s, wake_on_commit
from runs.storage import artifact_path, output_path, stored, write, write_once
from runs.types import Claim, StepOutput, StoredFile
from tenants.errors import StorageError


def step_complete(*, alias: str, claim: Claim, output: StepOutput, llm_seconds: float, adopted: bool) -> None:
    """Store the step's output and move the run to its next step.

    1. lock, and reject a claim that is no longer current; 2. write the files: after a crash from here on, the next
    attempt adopts the output; 3. update step, artifact and run, and write the audit entry; 4. send the next wake-up
    after the commit. `llm_seconds` is the model's response time; `adopted` means that an earlier attempt wrote the
    output. If another attempt has written an output meanwhile, that one is kept. Raises `LeaseLost` or `StorageError`,
    and then changes no rows.
    """
    with transaction.atomic(using=alias):
        row = _locked(alias, claim)
        following = _step_after(alias, row)
        kept, artifact, result = _write(alias, claim, output, is_last=following is None)
        # If another attempt's output is kept, both were paid for.
        usage = _usage(kept, output) if kept != output else _usage(output)
        metrics = _metrics(kept, llm_seconds, adopted or kept != output)
        _keep(alias, row, kept, result, usage=usage, metrics=metrics)
        _keep_artifact(alias, row, artifact, kept)
        _advance(alias, claim, row.run, following)
        _record(alias, "step.complete", claim, output_digest=result.digest, artifact_digest=artifact.digest)
        if following is None:
            record(using=alias, action="run.complete", resource_type="run", resource_id=str(claim.run_id))


def step_retry(*, alias: str, claim: Claim, reason: str, delay_s: float, usage: TokenUsage | None = None) -> bool:
    """Schedule a retry in `delay_s` seconds; if no attempts are left, fail the step and return False.

    `reason` is shown to staff; `usage` is what the failed attempt used. Raises `LeaseLost`.
    """
    if claim.attempt >= settings.RUN_MAX_ATTEMPTS:
        reason = ngettext(
            "%(reason)s (given up after %(n)d attempt)", "%(reason)s (given up after %(n)d attempts)", claim.attempt
        ) % {"reason": reason.rstrip("."), "n": claim.attempt}
        step_fail(alias=alias, claim=claim, reason=reason, usage=usage)
        return False
    with transaction.atomic(using=alias):
        row = _locked(alias, claim)
        Step.objects.using(alias).filter(pk=row.pk).update(
            status=StepStatus.PENDING,
            retry_count=claim.attempt,
            error_message=_storable(reason),
            token_usage=_added(row, usage),
            not_before=Now() + timedelta(seconds=delay_s),
            wake_after=Now() + timedelta(seconds=delay_s + rewake_s(0)),
            lease_expires_at=None,
            lease_owner=None,
        )
        wake_on_commit(alias=alias, tenant_id=claim.tenant_id, run_id=claim.run_id, step=claim.step, delay_s=delay_s)
        _record(alias, "step.retry", claim, delay_s=round(delay_s, 1), reason="attempt failed")
    return True


def step_fail(*, alias: str, claim: Claim, reason: str, usage: TokenUsage | None = None) -> None:
    """Fail the step and its run; `reason` is shown to staff. Raises `LeaseLost`."""
    with transaction.atomic(using=alias):
        fail_run(alias, _locked(alias, claim), reason, usage)


def fail_run(alias: str, row: Step, reason: str, usage: TokenUsage | None = None) -> None:
    """Fail a step and its run, which the caller's transaction has locked."""
    Step.objects.using(alias).filter(pk=row.pk).update(
        status=StepStatus.FAILED,
        error_message=_storable(reason),
        token_usage=_added(row, usage),
        lease_expires_at=None,
        lease_owner=None,
    )
    Run.objects.using(alias).filter(pk=row.run_id).update(status=RunStatus.FAILED)
    run_id = str(row.run_id)
    details = {"run_id": run_id, "step": row.step, "attempt": row.retry_count + 1, "token": row.lease_token}
    record(using=alias, action="step.fail", resource_type="step", resource_id=str(row.pk), details=details)
    record(using=alias, action="run.fail", resource_type="run", resource_id=run_id, details={"step": row.step})


def _locked(alias: str, claim: Claim) -> Step:
    """Lock the claimed step and its run, and return the step; raise `LeaseLost` unless the claim is current."""
    steps = Step.objects.using(alias).select_related("run").select_for_update(of=("run", "self"))
    # Check the run's id too: a restore may have removed the step and given its primary key to another.
    row = steps.filter(pk=claim.step_id, run_id=claim.run_id, step=claim.step).first()
    if (
        row is None
        or row.lease_token != claim.token
        or row.status != StepStatus.RUNNING
        or row.run.status == RunStatus.FAILED
    ):
        raise LeaseLost(
            _("Run %(run)s: step %(step)s was taken over by another worker.")
            % {"run": claim.run_id, "step": claim.step}
        )
    return row


def _step_after(alias: str, row: Step) -> Step | None:
    return Step.objects.using(alias).filter(run_id=row.run_id, position__gt=row.position).order_by("position").first()


def _write(alias: str, claim: Claim, output: StepOutput, *, is_last: bool) -> tuple[StepOutput, StoredFile, StoredFile]:
    """Write `output.json` and the artifact; return the kept output, and the files (artifact, `output.json`).

    The row lock does not protect the files: if a worker freezes in here, the server ends its transaction, and when the
    worker continues, the step may belong to another. So the first `output.json` that answers the step's question is
    final, whoever wrote it, and the artifact is derived from it: a late worker finds both and changes neither.
    """
    path, content = output_path(claim.run_id, claim.step), encode(output)
    present = write_once(path, content)
    kept = decode(present)
    if kept is None or not same_question(kept, output):
        # Left over from before a restore, or damaged by a disk failure.
        _replace(alias, claim, path, content)
        kept, present = output, content
    try:
        artifact = _write_article(alias, claim, kept, is_last=is_last)
    except StorageError as error:
        raise OutputKept(error.message, hint=error.hint) from error
    return kept, artifact, stored(path, present)


def _write_article(alias: str, claim: Claim, output: StepOutput, *, is_last: bool) -> StoredFile:
    name = article_name(claim.step, is_last=is_last)
    path, content = artifact_path(claim.run_id, claim.step, name), output.text.encode()
    if write_once(path, content) != content:
        _replace(alias, claim, path, content)
    return stored(path, content)


def _replace(alias: str, claim: Claim, path: str, content: bytes) -> None:
    """Replace a file that does not belong to this step, once the server confirms that our transaction is still open."""
    _locked(alias, claim)
    write(path, content)


def _keep(
    alias: str,
    row: Step,
    output: StepOutput,
    result: StoredFile,
    *,
    usage: TokenUsage,
    metrics: dict[str, object],
) -> None:
    Step.objects.using(alias).filter(pk=row.pk).update(
        status=StepStatus.COMPLETED,
        token_usage=_added(row, usage),
        error_message=None,
        completed_at=Now(),
        output_path=result.path,
        output_digest=result.digest,
        summary=summary_of(output.text),
        metrics={**metrics, "size_bytes": result.size_bytes},
        lease_expires_at=None,
    )


def _keep_artifact(alias: str, row: Step, file: StoredFile, output: StepOutput) -> None:
    """Insert or update the file's row."""
    artifact = Artifact(
        run_id=row.run_id,
        step=row.step,
        file_type="markdown",
        file_path=file.path,
        digest=file.digest,
        metadata={"size_bytes": file.size_bytes, "characters": len(output.text)},
    )
    Artifact.objects.using(alias).bulk_create(
        [artifact],
        update_conflicts=True,
        unique_fields=["run", "file_path"],
        update_fields=["step", "file_type", "digest", "metadata"],
    )


def _advance(alias: str, claim: Claim, run: Run, following: Step | None) -> None:
    """Move the run to its next step or complete it. A paused run advances too, but no worker is woken."""
    runs = Run.objects.using(alias).filter(pk=run.pk)
    if following is None:
        runs.update(status=RunStatus.COMPLETED, current_step=None)
        return
    runs.update(current_step=following.step)
    if run.status != RunStatus.PAUSED:
        wake_on_commit(alias=alias, tenant_id=claim.tenant_id, run_id=claim.run_id, step=following.step)


def _added(row: Step, usage: TokenUsage | None) -> dict[str, int] | None:
    """Return the step's tokens plus those of one more attempt; None if no attempt used any."""
    if usage is None:
        return row.token_usage
    before = row.token_usage or {}
    return {
        "input": before.get("input", 0) + usage.input_tokens,
        "output": before.get("output", 0) + usage.output_tokens,
    }


def _usage(*outputs: StepOutput) -> TokenUsage:
    return TokenUsage(
        input_tokens=sum(output.input_tokens for output in outputs),
        output_tokens=sum(output.output_tokens for output in outputs),
    )


def _metrics(output: StepOutput, llm_seconds: float, adopted: bool) -> dict[str, object]:
    return {
        "input_tokens": output.input_tokens,
        "output_tokens": output.output_tokens,
        "characters": len(output.text),
        "finish_reason": output.finish_reason,
        "llm_seconds": round(llm_seconds, 3),
        "adopted": adopted,
    }


def _record(alias: str, action: str, claim: Claim, **details: object) -> None:
    known = {"run_id": str(claim.run_id), "step": claim.step, "attempt": claim.attempt, "token": claim.token}
    record(
        using=alias,
        action=action,
        resource_type="step",
        resource_id=str(claim.step_id),
        details={**known, **details},
    )


def _storable(text: str) -> str:
    """Remove NULs, which a provider's message may contain and PostgreSQL's text cannot store; truncate."""
    return text.replace("\x00", "")[:2000]
