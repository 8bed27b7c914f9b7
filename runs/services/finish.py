"""How a claimed step ends: completed, to be tried again, or failed. Each is one transaction of the claim's holder.

All lock the run first, then the step, then (through `record`) the head of the audit chain.
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
    """Keep what the step made and hand the run to its next step.

    1. lock, and refuse a claim that is no longer the current one; 2. write the files, so that a crash from here on
    leaves an output that the next attempt adopts; 3. row, artifact, run and audit entry; 4. the next wake-up after the
    commit. `llm_seconds` is how long the model took; `adopted` tells that an earlier attempt had written the output.
    Where another attempt has written one meanwhile, that one is kept. Raises `LeaseLost` or `StorageError`; nothing is
    changed then.
    """
    with transaction.atomic(using=alias):
        row = _locked(alias, claim)
        following = _step_after(alias, row)
        kept, artifact, result = _write(alias, claim, output, is_last=following is None)
        # Both were paid for.
        usage = _usage(kept, output) if kept != output else _usage(output)
        metrics = _metrics(kept, llm_seconds, adopted or kept != output)
        _keep(alias, row, kept, result, usage=usage, metrics=metrics)
        _keep_artifact(alias, row, artifact, kept)
        _advance(alias, claim, row.run, following)
        _record(alias, "step.complete", claim, output_digest=result.digest, artifact_digest=artifact.digest)
        if following is None:
            record(using=alias, action="run.complete", resource_type="run", resource_id=str(claim.run_id))


def step_retry(*, alias: str, claim: Claim, reason: str, delay_s: float, usage: TokenUsage | None = None) -> bool:
    """Have the step tried again in `delay_s` seconds; False where no attempt is left, and it failed instead.

    `reason` is for people; `usage` what the failed attempt cost. Raises `LeaseLost`.
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
    """Fail the step, and with it the run; `reason` is for people. Raises `LeaseLost`."""
    with transaction.atomic(using=alias):
        fail_run(alias, _locked(alias, claim), reason, usage)


def fail_run(alias: str, row: Step, reason: str, usage: TokenUsage | None = None) -> None:
    """Fail a step and its run, both locked by the caller's transaction."""
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
    """Return the claimed step with its run, both locked; raise `LeaseLost` unless the claim is the current one."""
    steps = Step.objects.using(alias).select_related("run").select_for_update(of=("run", "self"))
    # The run's id as well: a restore may have taken the step away, and given its number to another.
    row = steps.filter(pk=claim.step_id, run_id=claim.run_id, step=claim.step).first()
    if (
        row is None
        or row.lease_token != claim.token
        or row.status != StepStatus.RUNNING
        or row.run.status == RunStatus.FAILED
    ):
        raise LeaseLost(
            _("Run %(run)s: the step %(step)s was taken over by another worker.")
            % {"run": claim.run_id, "step": claim.step}
        )
    return row


def _step_after(alias: str, row: Step) -> Step | None:
    return Step.objects.using(alias).filter(run_id=row.run_id, position__gt=row.position).order_by("position").first()


def _write(alias: str, claim: Claim, output: StepOutput, *, is_last: bool) -> tuple[StepOutput, StoredFile, StoredFile]:
    """Write `output.json` and the artifact; return the output that is kept, and the two files.

    The row's lock does not protect the files: the server ends the transaction of a worker that is frozen in here, and
    when it goes on it writes into what is another's by then. So the first `output.json` that answers the step's
    question is the step's for good, whoever wrote it, and the artifact follows from it: who comes late finds both.
    """
    path, content = output_path(claim.run_id, claim.step), encode(output)
    present = write_once(path, content)
    kept = decode(present)
    if kept is None or not same_question(kept, output):
        # Left by a state of the database that is gone, or by a writer without a whole disk.
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
    """Replace a file that is not this step's; not before the server has said that the transaction lives."""
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
    """Insert the file's row, or renew the one that it has."""
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
    """Move the run to its next step, or to its end. A paused run moves on but wakes nobody."""
    runs = Run.objects.using(alias).filter(pk=run.pk)
    if following is None:
        runs.update(status=RunStatus.COMPLETED, current_step=None)
        return
    runs.update(current_step=following.step)
    if run.status != RunStatus.PAUSED:
        wake_on_commit(alias=alias, tenant_id=claim.tenant_id, run_id=claim.run_id, step=following.step)


def _added(row: Step, usage: TokenUsage | None) -> dict[str, int] | None:
    """Return the step's tokens with those of one more attempt; None where no attempt used any."""
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
    """PostgreSQL's text knows no NUL, and a provider's message may hold anything."""
    return text.replace("\x00", "")[:2000]
