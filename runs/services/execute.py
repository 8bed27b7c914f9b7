"""Do one step: what a worker does with a wake-up."""

import logging
import time
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from llm.clients import client_for
from llm.errors import LLMError
from llm.selectors import resolve_named_model
from llm.types import LLMReply, LLMRequest, TokenUsage
from prompts.errors import SandboxUnavailable
from runs.errors import LeaseLost, OutputKept
from runs.retry import delay_s
from runs.services.claim import lease_renew, step_claim
from runs.services.finish import step_complete, step_fail, step_retry
from runs.services.heartbeat import Heartbeat
from runs.services.prepare import Work, prepare
from runs.types import Claim, StepOutcome, StepOutput
from tenants.errors import StorageError, TenantError, TenantLocked
from tenants.routing.context import tenant_context

logger = logging.getLogger(__name__)

# The tenant's database is out of reach, takes no changes (a standby), or ended our transaction because we were silent
# for too long: says nothing of the step.
UNUSABLE = (OperationalError, InterfaceError, InternalError)


def step_execute(*, tenant_id: str, run_id: UUID, step: str, owner: str) -> StepOutcome:
    """Claim the step, ask its model, keep the answer; return how it ended.

    1. claim it and render its prompt, inside the tenant's context; 2. ask the model outside, with neither a transaction
    nor a connection of the tenant's held, while the lease is renewed; 3. complete it inside again.
    A failure is recorded on the step: tried again later, or final. Only what cannot be recorded is raised
    (`TenantError`, the database out of reach): then the lease lapses, and the sweep hands the step to another worker.
    """
    claim: Claim | None = None
    output: StepOutput | None = None
    try:
        with tenant_context(tenant_id) as alias:
            claim = step_claim(alias=alias, tenant_id=tenant_id, run_id=run_id, step=step, owner=owner)
            if claim is None:
                return "not claimed"
            work = prepare(alias=alias, claim=claim)
        started = time.monotonic()
        output = work.finished or _ask(claim, work)
        llm_seconds = time.monotonic() - started
        _complete(claim, output, llm_seconds=llm_seconds, adopted=work.finished is not None)
    except (TenantError, *UNUSABLE):
        raise
    except LeaseLost:
        return _lost(claim)
    except Exception as error:
        if claim is None:
            raise
        return _settle(claim, error, output)
    _log(logging.INFO, "step completed", claim, "step.complete")
    return "completed"


def _ask(claim: Claim, work: Work) -> StepOutput:
    """Return the model's answer, the lease renewed meanwhile."""
    model = resolve_named_model(claim.provider, claim.model, active_only=False)
    client = client_for(claim.provider, model.api_base_url)
    request = LLMRequest(
        model=claim.model,
        prompt=work.prompt_text,
        max_output_tokens=model.max_output_tokens,
        timeout_s=settings.LLM_TIMEOUT_S,
    )
    with Heartbeat(claim, _renew, interval_s=settings.RUN_LEASE_S / 3):
        reply = client.complete(request)
    return _output_of(claim, work, reply)


def _complete(claim: Claim, output: StepOutput, *, llm_seconds: float, adopted: bool) -> None:
    """Keep the output; where the tenant's tables are locked, as during a migration, try for as long as a lease.

    The answer is paid for. Whoever has taken the step over meanwhile wins: `LeaseLost`.
    """
    deadline = time.monotonic() + settings.RUN_LEASE_S
    while True:
        try:
            with tenant_context(claim.tenant_id) as alias:
                step_complete(alias=alias, claim=claim, output=output, llm_seconds=llm_seconds, adopted=adopted)
            return
        except TenantLocked:
            if time.monotonic() > deadline:
                raise


def _renew(claim: Claim) -> bool:
    with tenant_context(claim.tenant_id) as alias:
        return lease_renew(alias=alias, claim=claim)


def _output_of(claim: Claim, work: Work, reply: LLMReply) -> StepOutput:
    # A reply may hold half a surrogate pair, which UTF-8 cannot.
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
    )


def _settle(claim: Claim, error: Exception, output: StepOutput | None) -> StepOutcome:
    """Record a failed attempt: to be tried again where that may help, else final."""
    usage = _usage_of(error, output, claim)
    try:
        with tenant_context(claim.tenant_id) as alias:
            if _may_pass(error) and step_retry(
                alias=alias,
                claim=claim,
                reason=str(error),
                delay_s=delay_s(claim.attempt, getattr(error, "retry_after_s", None)),
                usage=usage,
            ):
                _log(logging.INFO, "step will be tried again", claim, "step.retry", error)
                return "retried"
            if not _may_pass(error):
                step_fail(alias=alias, claim=claim, reason=_reason(error), usage=usage)
    except LeaseLost:
        return _lost(claim)
    _log(logging.ERROR, "step failed", claim, "step.fail", error)
    return "failed"


def _may_pass(error: Exception) -> bool:
    """Tell whether another attempt may succeed."""
    if isinstance(error, LLMError):
        return not error.permanent
    return isinstance(error, (StorageError, SandboxUnavailable))


def _usage_of(error: Exception, output: StepOutput | None, claim: Claim) -> TokenUsage | None:
    """Return the tokens that the failed attempt cost, as far as they are known and no later one counts them."""
    if isinstance(error, LLMError):
        return error.usage
    if isinstance(error, OutputKept) and claim.attempt < settings.RUN_MAX_ATTEMPTS:
        return None
    return TokenUsage(input_tokens=output.input_tokens, output_tokens=output.output_tokens) if output else None


def _reason(error: Exception) -> str:
    """Return what staff read; of a defect only its class, since its message may hold content."""
    if isinstance(error, SeoGenError):
        return str(error)
    return _("Unexpected error (%(name)s); the worker's log tells more.") % {"name": type(error).__name__}


def _lost(claim: Claim | None) -> StepOutcome:
    if claim is not None:
        _log(logging.WARNING, "step was taken over, result dropped", claim, "lease.lost")
    return "lost"


def _log(level: int, message: str, claim: Claim, action: str, error: Exception | None = None) -> None:
    """Log ids only; the traceback just of a defect."""
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
