"""Translate whatever goes wrong in a call into `LLMTransientError` or `LLMPermanentError`.

No error is chained to its cause: a cause may repeat the provider's body, which may quote the prompt and the key, and it
would appear in every logged traceback.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

import httpx2
from django.utils.translation import gettext as _

from llm.clients.error_bodies import (
    Fault,
    error_of,
    fault_of,
    is_permanent,
    names_permanent,
    request_id_of,
    retry_after_s,
    sentence_of,
    status_of,
)
from llm.errors import LLMError, LLMPermanentError, LLMTransientError
from llm.types import LLMRequest, TokenUsage

# The codes of errors with an HTTP status.
HTTP_CODES = {
    Fault.KEY: "llm_key_refused",
    Fault.QUOTA: "llm_quota_used_up",
    Fault.RATE: "llm_rate_limited",
    Fault.MODEL: "llm_model_unknown",
    Fault.URL: "llm_url_not_found",
    Fault.OTHER: "llm_http_error",
}
MAX_MESSAGE_CHARS = 500
# Shorter texts occur by chance in a provider's message.
MIN_REDACTED_CHARS = 12


@dataclass(frozen=True)
class Call:
    """A call, for error messages; `redacted` keeps `key` and the request's texts out of them."""

    provider_id: str
    request: LLMRequest
    key: str = field(default="", repr=False)

    @property
    def names(self) -> dict[str, object]:
        return {
            "provider": self.provider_id,
            "model": self.request.model,
            "timeout": self.request.timeout_s,
            "stall": self.request.stall_timeout_s or self.request.timeout_s,
        }


class _Facts(TypedDict):
    """What an error says about the call: whether it may be billed, and the id that the provider gave it."""

    may_be_billed: bool
    request_id: str


def network_failure(exc: Exception, call: Call, *, sent: bool, stalled: bool, request_id: str = "") -> LLMError | None:
    """Return our error for what an SDK or httpx2 raised, or None if it is not about the server or the network.

    `sent` says whether the provider may have received the request. The SDKs wrap httpx2's exceptions, or let them
    through; the first known exception in the chain decides.
    """
    facts: _Facts = {"may_be_billed": sent, "request_id": request_id}
    for cause in _chain(exc):
        if isinstance(cause, httpx2.ConnectTimeout):
            # Its limit is not the call's: each address gets CONNECT_TIMEOUT_S.
            reason = _("no connection was made in time")
            return LLMTransientError(_failed(reason, call), code="llm_timeout", **facts)
        if isinstance(cause, httpx2.TimeoutException):
            return _stalled(call, facts) if stalled else _late(call, facts)
        if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
            return LLMPermanentError(_unreachable(cause, call), code="llm_unreachable")
        if isinstance(cause, httpx2.RequestError):
            return LLMTransientError(_unreachable(cause, call), code="llm_unreachable", **facts)
    return None


def malformed(call: Call, *, usage: TokenUsage | None = None, request_id: str = "") -> LLMTransientError:
    """Return the error for a body that the API does not document: usually a gateway's page or a truncated reply."""
    return LLMTransientError(
        _("The provider %(provider)s returned a malformed response for model %(model)s.") % call.names,
        hint=_("If this persists, check the provider's API base URL, or LOCAL_LLM_URL for the local LLM."),
        code="llm_reply_malformed",
        usage=usage,
        may_be_billed=usage is None,
        request_id=request_id,
    )


def incomplete(call: Call, *, request_id: str) -> LLMTransientError:
    """Return the error for a stream that ended properly, but before the reply was complete."""
    return LLMTransientError(
        _("The provider %(provider)s ended the stream before the reply from model %(model)s was complete.")
        % call.names,
        code="llm_reply_incomplete",
        may_be_billed=True,
        request_id=request_id,
    )


def too_large(call: Call, *, request_id: str) -> LLMPermanentError:
    """Return the error for a reply several times larger than its token limit allows: no model wrote that."""
    return LLMPermanentError(
        _(
            "The reply from the provider %(provider)s for model %(model)s is far larger than its output limit of"
            " %(limit)d tokens allows."
        )
        % {**call.names, "limit": call.request.max_output_tokens},
        hint=_("Check the provider's API base URL, or LOCAL_LLM_URL for the local LLM."),
        code="llm_reply_too_large",
        may_be_billed=True,
        request_id=request_id,
    )


def status_failure(status: int, reason: str, headers: Mapping[str, str], body: object, call: Call) -> LLMError:
    """Return the error for an HTTP status other than success. `body` is the parsed body, or None if it is not JSON."""
    said = redacted(sentence_of(body) or reason, call)
    message = (
        _("The provider %(provider)s returned HTTP %(status)d for model %(model)s: %(said)s")
        if said
        else _("The provider %(provider)s returned HTTP %(status)d for model %(model)s.")
    ) % {**call.names, "status": status, "said": said}
    request_id, fault = request_id_of(headers, body), fault_of(status, body)
    if is_permanent(status, error_of(body)):
        return LLMPermanentError(message, hint=_hint(fault), code=HTTP_CODES[fault], request_id=request_id)
    return LLMTransientError(
        message,
        retry_after_s=retry_after_s(headers, body, datetime.now(UTC)),
        code=HTTP_CODES[fault],
        request_id=request_id,
    )


def _hint(fault: Fault) -> str:
    match fault:
        case Fault.KEY:
            return _("Check the provider's key variable, the key in it, and what the provider allows the key to do.")
        case Fault.QUOTA:
            return _("Check the account's balance and limits at the provider.")
        case Fault.MODEL:
            return _("Correct the model's name in the admin under Models and prices, or deactivate the model.")
        case Fault.URL:
            return _(
                "Check the provider's API base URL in the admin under Providers, or LOCAL_LLM_URL for the local LLM."
            )
        case _:
            return ""


def error_in_reply(
    body: Mapping[str, Any],
    call: Call,
    *,
    streamed: bool,
    usage: TokenUsage | None,
    may_be_billed: bool,
    request_id: str,
) -> LLMError:
    """Return our error for an error that the provider reports in a successful response.

    It is permanent or transient like the HTTP status that it names or stands for. Without such a status, it is
    transient if it came in a stream and has no permanent code, and permanent otherwise.
    """
    said = redacted(sentence_of(body), call)
    message = (
        _("The provider %(provider)s reported an error for model %(model)s: %(said)s")
        if said
        else _("The provider %(provider)s reported an error for model %(model)s.")
    ) % {**call.names, "said": said}
    error = error_of(body)
    status = status_of(error)
    permanent = is_permanent(status, error) if status else not streamed or names_permanent(error)
    facts: _Facts = {"may_be_billed": may_be_billed and usage is None, "request_id": request_id}
    if permanent:
        return LLMPermanentError(message, code="llm_error_in_reply", usage=usage, **facts)
    wait = retry_after_s({}, body, datetime.now(UTC))
    return LLMTransientError(message, code="llm_error_in_reply", usage=usage, retry_after_s=wait, **facts)


def storable(text: str) -> str:
    """Return the text without NUL, which PostgreSQL cannot store, and with U+FFFD for half a surrogate pair.

    A pair whose halves came in two parts of a stream is put together.
    """
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def redacted(text: str, call: Call) -> str:
    """Return a provider's message on one line, shortened, without the key and without whole lines of the request.

    Lines shorter than `MIN_REDACTED_CHARS` are kept.
    """
    texts = [call.request.prompt, call.request.system]
    quotable = [*texts, *(line.strip() for whole in texts for line in whole.splitlines())]
    secrets = [call.key, *(quote for quote in quotable if len(quote) >= MIN_REDACTED_CHARS)]
    # The longest text first: once a part of it is replaced, the whole prompt would no longer be found.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = " ".join(storable(text).split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _late(call: Call, facts: _Facts) -> LLMTransientError:
    return LLMTransientError(
        _("The provider %(provider)s did not complete a reply for model %(model)s within %(timeout)g s.") % call.names,
        code="llm_timeout",
        **facts,
    )


def _stalled(call: Call, facts: _Facts) -> LLMTransientError:
    return LLMTransientError(
        _(
            "The provider %(provider)s stopped in the middle of a reply from model %(model)s: it sent nothing for"
            " %(stall)g s."
        )
        % call.names,
        code="llm_stalled",
        **facts,
    )


def _unreachable(cause: Exception, call: Call) -> str:
    return _failed(redacted(str(cause) or type(cause).__name__, call).rstrip("."), call)


def _failed(reason: str, call: Call) -> str:
    return _("The call to the provider %(provider)s for model %(model)s failed: %(reason)s.") % {
        **call.names,
        "reason": reason,
    }


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
