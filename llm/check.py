"""Check providers by making one tiny call to each."""

import time

from django.db import transaction

from audit.log.entries import Details, record
from config.base.databases import CONTROL, return_control_connection
from llm.clients.registry import LLMClient, client_for
from llm.errors import LLMError, UnknownProvider
from llm.selectors import active_providers, cheapest_model
from llm.types import LLMReply, LLMRequest, ProviderCheck, ResolvedModel, TokenUsage

PROMPT = "Reply with the word OK."
# The lowest limit that OpenAI accepts. A reasoning model may use it up without writing a word, which proves as much.
MAX_OUTPUT_TOKENS = 16
ENOUGH = frozenset({"llm_output_limit_reached", "llm_context_full"})
TIMEOUT_S = 30.0


def llm_check(*, provider_id: str | None = None) -> list[ProviderCheck]:
    """Call the cheapest active model of one provider, active or not, or of each active provider; return the results.

    A failed call is reported in its result. Raises `UnknownProvider`.
    """
    return [_check(name) for name in ([provider_id] if provider_id else active_providers())]


def _check(provider_id: str) -> ProviderCheck:
    """Call the provider's cheapest model and return the result.

    Since the call may be billed, one audit entry is written before it, and another, with the tokens it used, after it.
    """
    try:
        model = cheapest_model(provider_id)
    except UnknownProvider:
        raise
    except LLMError as error:
        return ProviderCheck(provider_id, None, error.code, error.message, error.hint)
    try:
        client = client_for(model.access)
    except LLMError as error:
        return ProviderCheck(provider_id, model.model_name, error.code, error.message, error.hint)
    _record(model, {})
    # The call may take a long time, and needs no database.
    return_control_connection()
    check, details = _call(client, model)
    _record(model, details)
    return check


def _call(client: LLMClient, model: ResolvedModel) -> tuple[ProviderCheck, Details]:
    """Make the call; return its result, and the details for the audit entry."""
    request = LLMRequest(
        model=model.model_name, prompt=PROMPT, max_output_tokens=MAX_OUTPUT_TOKENS, timeout_s=TIMEOUT_S
    )
    came: LLMReply | LLMError
    began = time.monotonic()
    try:
        came = client.complete(request)
    except LLMError as failure:
        came = failure
    seconds = round(time.monotonic() - began, 3)
    error = came if isinstance(came, LLMError) and came.code not in ENOUGH else None
    return _shown(model, error, came.usage, seconds), {
        "result": error.code if error else "ok",
        "token_usage": came.usage.as_document() if came.usage else None,
        "request_id": came.request_id,
    }


def _shown(model: ResolvedModel, error: LLMError | None, usage: TokenUsage | None, seconds: float) -> ProviderCheck:
    return ProviderCheck(
        provider_id=model.provider_id,
        model_name=model.model_name,
        code=error.code if error else "",
        message=error.message if error else "",
        hint=error.hint if error else "",
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        seconds=seconds,
    )


def _record(model: ResolvedModel, details: Details) -> None:
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="llm.check",
            resource_type="llm_provider",
            resource_id=model.provider_id,
            details={"model": model.model_name, "max_output_tokens": MAX_OUTPUT_TOKENS, **details},
        )
