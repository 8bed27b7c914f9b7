"""Execute one step: what a worker does on a wake-up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError
from django.utils.translation import gettext as _

from config.base.databases import return_control_connection
from config.base.errors import SeoGenError
from llm.clients.registry import LLMClient, client_for
from llm.context import estimated_tokens, require_fits
from llm.errors import CallAborted, LLMError, NoActiveModel
from llm.models import OnTruncation
from llm.types import LLMReply, LLMRequest, TokenUsage
from runs.errors import BudgetReached, LeaseLost, OutputTruncated
from runs.steps.backoff import delay_s
from runs.steps.call import CallEnd, call_begin
from runs.steps.claim import step_claim
from runs.steps.failures import given_up, larger_limit, may_pass
from runs.steps.finish import EndedCall, end_call, step_complete, step_fail, step_pause, step_retry, step_return
from runs.steps.in_flight import Flight, in_flight
from runs.steps.prepare import Work, prepare
from runs.steps.store import store_output
from runs.steps.turn import NO_CALL, end_turn, outcome_of_error, outcome_of_reply
from runs.turns import Turn
from runs.types import StepOutcome, StepOutput
from tenants.errors import (
    StorageError,
    TenantConnectionsExhausted,
    TenantError,
    TenantLocked,
    TenantNotActive,
    TenantUnfinished,
    TenantUnreachable,
)
from tenants.models import TenantStatus
from tenants.routing.context import tenant_context

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# The tenant's database cannot be reached, is read-only (a standby), or ended our transaction because it was idle too
# long. None of these is the step's fault.
UNUSABLE = (OperationalError, InterfaceError, InternalError)
# Errors that may go away while a reply is waiting to be stored.
PASSING = (
    *(TenantNotActive, TenantLocked, TenantUnreachable, TenantUnfinished, TenantConnectionsExhausted),
    *(*UNUSABLE, StorageError),
)
# While a tenant is being restored, its reply waits, because the tenant will soon be available again.
RETURNING = (TenantStatus.ACTIVE, TenantStatus.RESTORING)
# A suspended tenant's runs do not continue, but what was paid for is kept and counted.
SETTLING = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)
LONGEST_PAUSE_S = 5.0


def step_execute(*, tenant_id: str, run_id: UUID, step: str, owner: str, turn: Turn | None = None) -> StepOutcome:
    """Claim the step, call its model and store the reply; end the `turn`, and return the outcome.

    1. in the tenant's context, claim the step, render its prompt and record the call; 2. outside it, call the model
    while the lease is renewed: no transaction and no connection is held; 3. in the context again, complete the step.
    If an earlier attempt has left an output, it is adopted without a call; if the worker is stopping or the run was
    paused, the step is returned. A failure is recorded on the step, which is then retried or fails; if a budget allows
    no call, the run is paused. Raises `TenantError` or one of `UNUSABLE` if the tenant cannot be used, or if the
    outcome cannot be recorded; the sweep then wakes another worker, once the lease has lapsed if the step was claimed.
    """
    flight: Flight | None = None
    try:
        with tenant_context(tenant_id) as alias:
            route = turn.waiting.route if turn else None
            claim = step_claim(alias=alias, tenant_id=tenant_id, run_id=run_id, step=step, owner=owner, route=route)
            if claim is None:
                return "not claimed"
            flight = in_flight.start(claim, turn)
            work = prepare(alias=alias, claim=claim)
            call = None if work.finished or flight.returning.is_set() else _begin(alias, flight, work)
        if work.finished:
            return _store(flight, work.finished, llm_seconds=0.0, adopted=True)
        if call is None:
            return _returned(flight, "worker stopped" if flight.returning.is_set() else "run paused")
        return _ask_and_store(flight, work, *call)
    except (TenantError, *UNUSABLE):
        raise
    except LeaseLost:
        return _lost(flight)
    except Exception as error:
        if flight is None:
            raise
        return _settle(flight, error)
    finally:
        if flight is not None:
            in_flight.end(flight)
        if turn is not None:
            end_turn(turn, flight.outcome if flight else NO_CALL)


def _begin(alias: str, flight: Flight, work: Work) -> tuple[LLMClient, LLMRequest] | None:
    """Record the call, and return what is needed to make it; None if the run or the claim no longer allows it."""
    claim, model = flight.claim, flight.claim.resolved
    if model is None:
        raise NoActiveModel(claim.provider, model=claim.model)
    client = client_for(model.access)
    require_fits(model, work.prompt_text)
    request = LLMRequest(
        model=claim.model,
        prompt=work.prompt_text,
        # No step reads what the last one adds to the cache.
        cache_points=work.cache_points[:-1] if claim.is_last else work.cache_points,
        max_output_tokens=claim.max_output_tokens or model.max_output_tokens,
        timeout_s=settings.LLM_TIMEOUT_S,
        stall_timeout_s=settings.LLM_STALL_TIMEOUT_S,
    )
    call_id = call_begin(
        alias=alias,
        claim=claim,
        max_input_tokens=estimated_tokens(work.prompt_text),
        max_output_tokens=request.max_output_tokens,
    )
    if call_id is None:
        return None
    flight.call = EndedCall(call_id, None)
    return client, request


def _ask_and_store(flight: Flight, work: Work, client: LLMClient, request: LLMRequest) -> StepOutcome:
    started = time.monotonic()
    reply = _ask(flight, client, request)
    output = _output_of(flight, work, reply)
    if output.is_truncated and flight.claim.on_truncation != OnTruncation.ACCEPT:
        return _settle(flight, _truncated(request, reply))
    return _store(flight, output, llm_seconds=time.monotonic() - started, adopted=False)


def _ask(flight: Flight, client: LLMClient, request: LLMRequest) -> LLMReply:
    """Call the model and return its reply; note what is known about the call's cost, even if the call fails."""
    assert flight.call is not None
    # Many threads wait for models, and few connections are enough for all of them.
    return_control_connection()
    try:
        reply = client.complete(request, flight.abort)
    except LLMError as error:
        flight.call = EndedCall(flight.call.id, _end_of(flight, error), error.code)
        flight.outcome = outcome_of_error(error)
        raise
    end = CallEnd(_counted(flight, reply.usage), reply.request_id or None, reply.finish_reason)
    flight.call = EndedCall(flight.call.id, end)
    flight.outcome = outcome_of_reply(reply.usage)
    return reply


def _counted(flight: Flight, usage: TokenUsage) -> dict[str, int]:
    """Return the tokens of a call by the units that the step's pinned prices distinguish."""
    return usage.as_document(flight.claim.long_context_over)


def _end_of(flight: Flight, error: LLMError) -> CallEnd | None:
    """Return what a failed call used; None if it may have been billed for an unknown amount."""
    if error.usage is not None:
        return CallEnd(_counted(flight, error.usage), error.request_id or None, error_code=error.code)
    return None if error.may_be_billed else CallEnd({}, error.request_id or None, error_code=error.code)


def _output_of(flight: Flight, work: Work, reply: LLMReply) -> StepOutput:
    claim = flight.claim
    # A reply may contain a lone surrogate, which UTF-8 cannot encode.
    text = reply.text.encode(errors="replace").decode()
    return StepOutput(
        run_id=claim.run_id,
        step=claim.step,
        provider=claim.provider,
        model=claim.model,
        prompt_id=work.prompt.id,
        prompt_version=work.prompt.version,
        input_digest=work.input_digest,
        text=text,
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        finish_reason=reply.finish_reason or "",
        version=claim.version,
        call_id=flight.call.id if flight.call else None,
        request_id=reply.request_id or None,
        token_usage=_counted(flight, reply.usage),
        is_truncated=reply.truncated,
    )


def _truncated(request: LLMRequest, reply: LLMReply) -> OutputTruncated:
    if reply.filled_context:
        return OutputTruncated(
            _("The output of model %(model)s ended because its context window was full.") % {"model": request.model},
            hint=_("Shorten the prompt, or use a model with a larger context window."),
            code="step_context_full",
        )
    return OutputTruncated(
        _("The output of model %(model)s ended at the limit of %(limit)d tokens.")
        % {"model": request.model, "limit": request.max_output_tokens}
    )


def _store(flight: Flight, output: StepOutput, *, llm_seconds: float, adopted: bool) -> StepOutcome:
    """Store the output and complete the step.

    The reply is paid for, so it is kept while the tenant cannot be used (`_persisted`). If the tenant was suspended,
    only the call is settled and the files are stored; the next attempt adopts the output. Raises `LeaseLost` if the
    claim is no longer current, or the last error if tenant or storage still cannot be used.
    """

    def complete(alias: str) -> None:
        step_complete(
            alias=alias,
            claim=flight.claim,
            output=output,
            llm_seconds=llm_seconds,
            adopted=adopted,
            call=flight.call,
        )

    try:
        _persisted(flight, complete)
    except TenantNotActive as error:
        if error.status == TenantStatus.SUSPENDED:
            with tenant_context(flight.claim.tenant_id, statuses=SETTLING):
                store_output(flight.claim, output)
        raise
    _log(logging.INFO, "step completed", flight, "step.complete")
    return "completed"


def _settle(flight: Flight, error: Exception) -> StepOutcome:
    """Record a failed attempt, and return the outcome: the step is retried or fails, or a budget pauses the run.

    If a stopping worker aborted the call, the step is returned.
    """
    if isinstance(error, CallAborted) and flight.returning.is_set():
        return _returned(flight, "worker stopped")
    try:
        return _persisted(flight, lambda alias: _record_failure(alias, flight, error))
    except LeaseLost:
        return _lost(flight)


def _record_failure(alias: str, flight: Flight, error: Exception) -> StepOutcome:
    claim, call = flight.claim, flight.call
    if isinstance(error, BudgetReached):
        step_pause(alias=alias, claim=claim, error=error)
        _log(logging.WARNING, "run paused, budget reached", flight, "run.pause", error)
        return "returned"
    limit = larger_limit(claim, error)
    if limit is not None:
        retried = _("%(reason)s The step will be retried with a limit of %(limit)d tokens.")
        reason = retried % {"reason": error, "limit": limit}
        step_retry(alias=alias, claim=claim, reason=reason, delay_s=0, call=call, max_output_tokens=limit)
        _log(logging.INFO, "step will be retried with a larger output limit", flight, "step.retry", error)
        return "retried"
    reason = _reason(error)
    if may_pass(error):
        final = given_up(alias, claim, error)
        if final is None:
            wait_s = delay_s(claim.failures + 1, getattr(error, "retry_after_s", None))
            step_retry(alias=alias, claim=claim, reason=reason, delay_s=wait_s, call=call)
            _log(logging.INFO, "step will be retried", flight, "step.retry", error)
            return "retried"
        reason = final
    step_fail(alias=alias, claim=claim, reason=reason, call=call)
    _log(logging.ERROR, "step failed", flight, "step.fail", error)
    return "failed"


def _returned(flight: Flight, reason: str) -> StepOutcome:
    """Make the step due again, and return the outcome. `reason` is for the audit log."""
    try:
        _persisted(flight, lambda alias: step_return(alias=alias, claim=flight.claim, reason=reason, call=flight.call))
    except LeaseLost:
        return _lost(flight)
    _log(logging.INFO, "step returned", flight, "step.return")
    return "returned"


def _lost(flight: Flight | None) -> StepOutcome:
    """Discard the result of a lost claim, but count what its call used."""
    if flight is None:
        return "lost"
    call = flight.call
    if call is not None:
        _persisted(flight, lambda alias: end_call(alias, flight.claim, call))
    _log(logging.WARNING, "claim lost, result discarded", flight, "lease.lost")
    return "lost"


def _persisted(flight: Flight, operation: Callable[[str], Result]) -> Result:
    """Return the result of `operation(alias)` in the tenant's context; repeat it if tenant or storage cannot be used.

    Gives up after RUN_REPLY_KEPT_S, or immediately if the worker is stopping or the tenant is neither active nor being
    restored, and then raises the error.
    """
    deadline, pause_s = time.monotonic() + settings.RUN_REPLY_KEPT_S, 0.1
    while True:
        try:
            with tenant_context(flight.claim.tenant_id) as alias:
                return operation(alias)
        except PASSING as error:
            if isinstance(error, TenantNotActive) and error.status == TenantStatus.SUSPENDED:
                _count_call(flight)
            waits = not isinstance(error, TenantNotActive) or error.status in RETURNING
            if not waits or flight.returning.is_set() or time.monotonic() + pause_s > deadline:
                raise
        return_control_connection()
        flight.returning.wait(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _count_call(flight: Flight) -> None:
    """Record what the call used, even if the tenant is suspended: no other process knows it."""
    call = flight.call
    if call is None or (call.end is None and call.error_code is None):
        return
    with suppress(*PASSING), tenant_context(flight.claim.tenant_id, statuses=SETTLING) as alias:
        end_call(alias, flight.claim, call)


def _reason(error: Exception) -> str:
    """Return the reason that staff see. For a bug, it names only the error's class: the message may quote content."""
    if isinstance(error, SeoGenError):
        return str(error)
    return _("Unexpected error (%(name)s); see the worker's log.") % {"name": type(error).__name__}


def _log(level: int, message: str, flight: Flight, action: str, error: Exception | None = None) -> None:
    """Log the message with ids and the error's class; add a traceback only for a bug."""
    claim = flight.claim
    logger.log(
        level,
        message,
        exc_info=error if error is not None and not isinstance(error, SeoGenError) else None,
        extra={
            "action": action,
            "tenant": claim.tenant_id,
            "run_id": str(claim.run_id),
            "step": claim.step,
            "attempt": claim.attempt,
            "error": type(error).__name__ if error else None,
        },
    )
