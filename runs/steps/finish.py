"""End a claimed step: complete, retry, fail or return it, or pause its run, each in one transaction.

All of them lock the run, then the step, then (through `record`) the head of the audit chain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from django.db import connections, transaction
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from audit.log.entries import record
from runs.errors import BudgetReached, LeaseLost
from runs.models import PauseCause, Run, RunStatus, Step, StepStatus
from runs.output import summary_of
from runs.steps.call import CallEnd, call_mark_unknown, call_settle
from runs.steps.rows import Following, is_current, lock_claimed
from runs.steps.store import StoredOutput, replace_foreign_files, store_output
from runs.steps.wake import rewake_s, route_of, waiting_of, wake_on_commit
from runs.summaries.summarize import summarize_on_commit
from runs.turns import Waiting
from runs.types import Claim, StepOutput

# The actor that paused a run that is waiting for a review.
PIPELINE = "pipeline"

# One statement, because a run of four steps executes it four times: settle the call, keep step and artifact, and move
# the run on. The caller has locked run and step.
COMPLETE = """
WITH settled AS (
    UPDATE public.calls
       SET status = 'settled', token_usage = %(usage)s::jsonb, request_id = coalesce(%(request_id)s, request_id),
           finish_reason = %(finish_reason)s, error_code = NULL, ended_at = statement_timestamp()
     WHERE id = %(call)s AND run_id = %(run)s AND status <> 'settled'
 RETURNING id
), artifact AS (
    INSERT INTO public.artifacts (run_id, step, file_type, file_path, digest, metadata)
    VALUES (%(run)s, %(name)s, 'markdown', %(artifact_path)s, %(artifact_digest)s, %(artifact_metadata)s::jsonb)
        ON CONFLICT (run_id, file_path) DO UPDATE
       SET step = EXCLUDED.step, file_type = EXCLUDED.file_type, digest = EXCLUDED.digest,
           metadata = EXCLUDED.metadata
), advanced AS (
    UPDATE public.runs
       SET status = %(run_status)s, current_step = %(next_step)s, pause_cause = %(pause_cause)s,
           paused_by = %(paused_by)s, paused_at = CASE WHEN %(pause_cause)s::text IS NOT NULL
                                                       THEN coalesce(paused_at, statement_timestamp()) END
     WHERE id = %(run)s
)
UPDATE public.steps
   SET status = 'completed', error_message = NULL, failing_since = NULL, completed_at = statement_timestamp(),
       output_path = %(path)s, output_digest = %(digest)s, summary = %(summary)s, metrics = %(metrics)s::jsonb,
       is_truncated = %(is_truncated)s, lease_expires_at = NULL,
       token_usage = CASE WHEN %(is_counted)s OR EXISTS (SELECT 1 FROM settled)
                          THEN %(total)s::jsonb ELSE token_usage END
 WHERE id = %(step)s
"""


@dataclass(frozen=True)
class EndedCall:
    """What is known about an attempt's call when the attempt ends. `end` is None if what the call used is unknown."""

    id: int
    end: CallEnd | None
    error_code: str | None = None


@dataclass(frozen=True)
class _Destination:
    """Where a run goes once its current step is completed."""

    status: str
    step: str | None
    # "provider/model" of that step.
    route: str = ""
    pause_cause: str | None = None
    paused_by: str | None = None


def step_complete(
    *, alias: str, claim: Claim, output: StepOutput, llm_seconds: float, adopted: bool, call: EndedCall | None = None
) -> None:
    """Store the step's output and move the run to its next step.

    1. reject a claim that is no longer current; 2. write the files: after a crash from here on, the next attempt adopts
    the output; 3. lock, check the claim again, and replace files that belong to no attempt; 4. settle the calls, update
    step, artifact and run, and write the audit entries; 5. after the commit, wake a worker for the next step, or update
    the run summary if the run is completed or paused. `llm_seconds` is the model's response time; `adopted` means that
    an earlier attempt wrote the output. `call` is this attempt's call. If another attempt has written an output in the
    meantime, that output is kept, and both calls are counted. Raises `LeaseLost` or `StorageError`, having changed no
    rows.
    """
    _require_current(alias, claim)
    stored = store_output(claim, output)
    output = stored.output
    with transaction.atomic(using=alias):
        row, following = locked(alias, claim)
        replace_foreign_files(stored, confirm=lambda: locked(alias, claim))
        if call is not None and call.id != output.call_id:
            end_call(alias, claim, call)
            row.refresh_from_db(using=alias, fields=["token_usage"])
        destination = _destination(row.run, following)
        metrics = _metrics(stored, llm_seconds, adopted or _is_of_another(output, call))
        _complete(alias, claim, row, stored, destination, metrics=json.dumps(metrics), request_id=output.request_id)
        _record(
            alias, "step.complete", claim, output_digest=stored.json_file.digest, artifact_digest=stored.article.digest
        )
        _advance(alias, claim, destination)


def step_retry(
    *,
    alias: str,
    claim: Claim,
    reason: str,
    delay_s: float,
    call: EndedCall | None = None,
    max_output_tokens: int | None = None,
) -> None:
    """Schedule a retry in `delay_s` seconds, with `max_output_tokens` if given. Raises `LeaseLost`.

    If the run is paused, no worker is woken. `reason` is shown to staff.
    """
    with transaction.atomic(using=alias):
        row, _following = locked(alias, claim)
        Step.objects.using(alias).filter(pk=row.pk).update(
            status=StepStatus.PENDING,
            retry_count=claim.failures + 1,
            lost_count=0,
            failing_since=Coalesce("failing_since", Now()),
            error_message=storable(reason),
            not_before=Now() + timedelta(seconds=delay_s),
            wake_after=Now() + timedelta(seconds=delay_s + rewake_s(0)),
            lease_expires_at=None,
            lease_owner=None,
            **({} if max_output_tokens is None else {"max_output_tokens": max_output_tokens}),
        )
        if call is not None:
            end_call(alias, claim, call)
        if row.run.status != RunStatus.PAUSED:
            wake_on_commit(alias=alias, waiting=waiting_of(claim.tenant_id, row), delay_s=delay_s)
        _record(alias, "step.retry", claim, delay_s=round(delay_s, 1), reason="attempt failed")


def step_return(*, alias: str, claim: Claim, reason: str, call: EndedCall | None = None) -> None:
    """Make the step due again without using up an attempt, and wake a worker. Raises `LeaseLost`.

    If the run is paused, no worker is woken. `reason` ("worker stopped", "run paused") is recorded in the audit entry.
    """
    with transaction.atomic(using=alias):
        row, _following = locked(alias, claim)
        Step.objects.using(alias).filter(pk=row.pk).update(
            status=StepStatus.PENDING, lease_expires_at=None, lease_owner=None, wake_after=None
        )
        if call is not None:
            end_call(alias, claim, call)
        if row.run.status != RunStatus.PAUSED:
            wake_on_commit(alias=alias, waiting=waiting_of(claim.tenant_id, row))
        _record(alias, "step.return", claim, reason=reason)


def step_pause(*, alias: str, claim: Claim, error: BudgetReached) -> None:
    """Pause the run before the step, since a budget allowed no call; the step shows the error. Raises `LeaseLost`.

    A run that a person has paused in the meantime stays paused for that reason.
    """
    with transaction.atomic(using=alias):
        row, _following = locked(alias, claim)
        Step.objects.using(alias).filter(pk=row.pk).update(
            status=StepStatus.PENDING,
            error_message=storable(str(error)),
            lease_expires_at=None,
            lease_owner=None,
            wake_after=None,
        )
        _record(alias, "step.return", claim, reason="budget reached")
        if row.run.status == RunStatus.PAUSED:
            return
        Run.objects.using(alias).filter(pk=row.run_id).update(
            status=RunStatus.PAUSED, pause_cause=PauseCause.BUDGET, paused_by=PIPELINE, paused_at=Now()
        )
        summarize_on_commit(alias=alias, tenant_id=claim.tenant_id, run_id=claim.run_id)
        details: dict[str, object] = {"cause": str(PauseCause.BUDGET), "code": error.code, "step": claim.step}
        record(using=alias, action="run.pause", resource_type="run", resource_id=str(claim.run_id), details=details)


def step_fail(*, alias: str, claim: Claim, reason: str, call: EndedCall | None = None) -> None:
    """Fail the step and its run; `reason` is shown to staff. Raises `LeaseLost`."""
    with transaction.atomic(using=alias):
        row, _following = locked(alias, claim)
        if call is not None:
            end_call(alias, claim, call)
        fail_run(alias, claim.tenant_id, row, reason)


def fail_run(alias: str, tenant_id: str, row: Step, reason: str) -> None:
    """Fail a step and its run, which the caller's transaction has locked."""
    Step.objects.using(alias).filter(pk=row.pk).update(
        status=StepStatus.FAILED, error_message=storable(reason), lease_expires_at=None, lease_owner=None
    )
    Run.objects.using(alias).filter(pk=row.run_id).update(
        status=RunStatus.FAILED, pause_cause=None, paused_by=None, paused_at=None
    )
    summarize_on_commit(alias=alias, tenant_id=tenant_id, run_id=row.run_id)
    run_id = str(row.run_id)
    attempt = row.retry_count + row.lost_count + 1
    details = {"run_id": run_id, "step": row.step, "attempt": attempt, "token": row.lease_token}
    record(using=alias, action="step.fail", resource_type="step", resource_id=str(row.pk), details=details)
    record(using=alias, action="run.fail", resource_type="run", resource_id=run_id, details={"step": row.step})


def end_call(alias: str, claim: Claim, call: EndedCall) -> None:
    """Settle the call, or record that its cost is unknown. Needs no current claim."""
    if call.end is not None:
        call_settle(alias=alias, claim=claim, call_id=call.id, end=call.end)
    else:
        call_mark_unknown(alias=alias, claim=claim, call_id=call.id, error_code=call.error_code)


def locked(alias: str, claim: Claim) -> tuple[Step, Following | None]:
    """Lock the claimed step and its run; return the step and the run's next step, which is None after the last.

    Raises `LeaseLost` if the claim is no longer current, or the run has failed.
    """
    found = lock_claimed(alias, claim)
    if found is None:
        raise _lease_lost(claim)
    row, _next = found
    if row.lease_token != claim.token or row.status != StepStatus.RUNNING or row.run.status == RunStatus.FAILED:
        raise _lease_lost(claim)
    return found


def _require_current(alias: str, claim: Claim) -> None:
    """Raise `LeaseLost` unless the claim is current. Locks nothing, so it may be lost a moment later."""
    if not is_current(alias, claim):
        raise _lease_lost(claim)


def _lease_lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        _("Run %(run)s: this worker no longer has the claim on step %(step)s.")
        % {"run": claim.run_id, "step": claim.step}
    )


def _destination(run: Run, following: Following | None) -> _Destination:
    """Return where the run goes now. A paused run stays paused, unless the step was its last one."""
    if following is None:
        return _Destination(RunStatus.COMPLETED, None)
    step, route = following.step, route_of(following.provider, following.model)
    if run.status == RunStatus.PAUSED:
        return _Destination(RunStatus.PAUSED, step, route, run.pause_cause, run.paused_by)
    if following.review and not following.is_approved:
        return _Destination(RunStatus.PAUSED, step, route, PauseCause.REVIEW, PIPELINE)
    return _Destination(RunStatus.RUNNING, step, route)


def _complete(
    alias: str, claim: Claim, row: Step, stored: StoredOutput, destination: _Destination, **found: str | None
) -> None:
    output, usage = stored.output, usage_of(stored.output)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            COMPLETE,
            {
                "run": claim.run_id,
                "step": claim.step_id,
                "name": claim.step,
                "call": output.call_id,
                "usage": json.dumps(usage),
                "finish_reason": output.finish_reason,
                # An output without a call was written by an earlier release.
                "is_counted": output.call_id is None,
                "total": json.dumps(_sum(row.token_usage or {}, usage)),
                "artifact_path": stored.article.path,
                "artifact_digest": stored.article.digest,
                "artifact_metadata": json.dumps(
                    {"size_bytes": stored.article.size_bytes, "characters": len(output.text)}
                ),
                "run_status": str(destination.status),
                "next_step": destination.step,
                "pause_cause": destination.pause_cause and str(destination.pause_cause),
                "paused_by": destination.paused_by,
                "path": stored.json_file.path,
                "digest": stored.json_file.digest,
                "summary": summary_of(output.text),
                "is_truncated": output.is_truncated,
                **found,
            },
        )


def _advance(alias: str, claim: Claim, destination: _Destination) -> None:
    """Record that the run was completed or waits for a review, or wake a worker for its next step."""
    run_id = str(claim.run_id)
    if destination.status != RunStatus.RUNNING:
        summarize_on_commit(alias=alias, tenant_id=claim.tenant_id, run_id=claim.run_id)
    if destination.step is None:
        record(using=alias, action="run.complete", resource_type="run", resource_id=run_id)
    elif destination.status == RunStatus.RUNNING:
        wake_on_commit(alias=alias, waiting=Waiting(claim.tenant_id, run_id, destination.step, destination.route))
    elif destination.paused_by == PIPELINE:
        details: dict[str, object] = {"cause": str(PauseCause.REVIEW), "step": destination.step}
        record(using=alias, action="run.pause", resource_type="run", resource_id=run_id, details=details)


def usage_of(output: StepOutput) -> dict[str, int]:
    """Return the tokens of an output by unit; one that an earlier release wrote has only the totals."""
    return output.token_usage or {"input": output.input_tokens, "output": output.output_tokens}


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {unit: one.get(unit, 0) + other.get(unit, 0) for unit in {**one, **other}}


def _is_of_another(output: StepOutput, call: EndedCall | None) -> bool:
    """Return whether another attempt's output was kept instead of this attempt's."""
    return call is not None and call.id != output.call_id


def _metrics(stored: StoredOutput, llm_seconds: float, adopted: bool) -> dict[str, object]:
    output = stored.output
    return {
        "input_tokens": output.input_tokens,
        "output_tokens": output.output_tokens,
        "characters": len(output.text),
        "size_bytes": stored.json_file.size_bytes,
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


def storable(text: str) -> str:
    """Return the text without NULs, which PostgreSQL cannot store, truncated to 2,000 characters."""
    return text.replace("\x00", "")[:2000]
