"""Execute one step: what a worker does on a wake-up."""

import logging
import time
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError
from llm.clients.registry import client_for
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

# The tenant's database cannot be reached, is read-only (a standby), or ended our transaction because it was idle too
# long. None of these is the step's fault.
UNUSABLE = (OperationalError, InterfaceError, InternalError)


def step_execute(*, tenant_id: str, run_id: UUID, step: str, owner: str) -> StepOutcome:
    """Claim the step, call its model and store the reply; return how it ended.

    1. in the tenant's context, claim the step and render its prompt; 2. outside it, call the model while the lease is
    renewed: no transaction and no connection of the tenant is held; 3. in the context again, complete the step.
    A failure is recorded on the step, which is then retried or fails. An error is raised only if it cannot be recorded
    (`TenantError`, the database cannot be reached); then the lease lapses, and the sweep wakes another worker.
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
    """Call the model, renewing the lease meanwhile, and return its output."""
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
    """Store the output. While the tenant's tables are locked, as in a migration, retry for the length of a lease.

    The reply is paid for, so it is worth waiting. Raises `LeaseLost` if another worker has taken over the step.
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
    )


def _settle(claim: Claim, error: Exception, output: StepOutput | None) -> StepOutcome:
    """Record a failed attempt: schedule a retry if one may succeed, else fail the step."""
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
                _log(logging.INFO, "step will be retried", claim, "step.retry", error)
                return "retried"
            if not _may_pass(error):
                step_fail(alias=alias, claim=claim, reason=_reason(error), usage=usage)
    except LeaseLost:
        return _lost(claim)
    _log(logging.ERROR, "step failed", claim, "step.fail", error)
    return "failed"


def _may_pass(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, LLMError):
        return not error.permanent
    return isinstance(error, (StorageError, SandboxUnavailable))


def _usage_of(error: Exception, output: StepOutput | None, claim: Claim) -> TokenUsage | None:
    """Return the tokens that the failed attempt used, if known and if no later attempt will count them."""
    if isinstance(error, LLMError):
        return error.usage
    if isinstance(error, OutputKept) and claim.attempt < settings.RUN_MAX_ATTEMPTS:
        return None
    return TokenUsage(input_tokens=output.input_tokens, output_tokens=output.output_tokens) if output else None


def _reason(error: Exception) -> str:
    """Return the reason that staff see. For a bug it names only the class, since the message may quote content."""
    if isinstance(error, SeoGenError):
        return str(error)
    return _("Unexpected error (%(name)s); see the worker's log.") % {"name": type(error).__name__}


def _lost(claim: Claim | None) -> StepOutcome:
    if claim is not None:
        _log(logging.WARNING, "step was taken over, result discarded", claim, "lease.lost")
    return "lost"


def _log(level: int, message: str, claim: Claim, action: str, error: Exception | None = None) -> None:
    """Log ids only, with a traceback only for a bug."""
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
