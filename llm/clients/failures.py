"""Translate whatever an SDK raises to `LLMTransientError` or `LLMPermanentError`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pydantic
from django.utils.translation import gettext as _

from llm.errors import LLMError, LLMPermanentError, LLMTransientError
from llm.types import LLMRequest

# In addition to 5xx: timeout, conflict (OpenAI and Claude say to retry), too early, rate limit.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
# OpenAI sends these with 429 if the account is out of money, not over a rate limit.
PERMANENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
MAX_MESSAGE_CHARS = 500
# Shorter texts occur by chance in a provider's message.
MIN_REDACTED_CHARS = 12


@dataclass(frozen=True)
class Call:
    """The call that failed, for messages, which never contain `key` or the request's texts."""

    provider_id: str
    request: LLMRequest
    key: str = field(default="", repr=False)

    @property
    def names(self) -> dict[str, object]:
        return {"provider": self.provider_id, "model": self.request.model, "timeout": self.request.timeout_s}


@contextmanager
def translated(call: Call) -> Iterator[None]:
    """Translate an SDK's failures inside the block. Any other exception passes through, because it is our bug.

    The original is not chained (`from None`): it repeats the provider's body, which may quote the prompt and the key,
    and would appear in every logged traceback.
    """
    try:
        yield
    except LLMError:
        raise
    except Exception as exc:
        error = translation(exc, call)
        if error is None:
            raise
        raise error from None


def translation(exc: Exception, call: Call) -> LLMError | None:
    """Return our error for an SDK's, or None if it is not about the server or the network.

    The SDKs wrap httpx2's exceptions, or let them through; the first known exception in the chain decides.
    """
    response = getattr(exc, "response", None)
    if isinstance(response, httpx2.Response) and not response.is_success:
        return _status_failure(response, call)
    for cause in _chain(exc):
        if isinstance(cause, httpx2.TimeoutException):
            return LLMTransientError(
                _("The provider %(provider)s did not answer for model %(model)s within %(timeout)g s.") % call.names,
                code="llm_timeout",
            )
        if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
            return LLMPermanentError(_unreachable(cause, call), code="llm_unreachable")
        if isinstance(cause, httpx2.RequestError):
            return LLMTransientError(_unreachable(cause, call), code="llm_unreachable")
        if isinstance(cause, json.JSONDecodeError | UnicodeDecodeError | pydantic.ValidationError):
            return malformed(call)
    return None


def malformed(call: Call) -> LLMTransientError:
    """Return the error for a body that the API does not document: usually a gateway's page, or truncated."""
    return LLMTransientError(
        _("The provider %(provider)s returned a malformed response for model %(model)s.") % call.names,
        hint=_("If this persists, check the provider's API base URL."),
        code="llm_reply_malformed",
    )


def retry_after_s(headers: Mapping[str, str], body: object, now: datetime) -> float | None:
    """Return the seconds the provider asks to wait, or None.

    OpenAI also sends `retry-after-ms`, which is more precise. Gemini sends `google.rpc.RetryInfo` in the body and no
    header.
    """
    if (milliseconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if (seconds := _seconds(value)) is not None:
        return seconds
    if value and (moment := _http_date(value)) is not None:
        return max(0.0, (moment - now).total_seconds())
    return _retry_info(body)


def redacted(text: str, call: Call) -> str:
    """Return a provider's message on one line, shortened, without the key and without quotes from the request."""
    texts = [call.request.prompt, call.request.system]
    quotable = [*texts, *(line.strip() for whole in texts for line in whole.splitlines())]
    secrets = [call.key, *(quote for quote in quotable if len(quote) >= MIN_REDACTED_CHARS)]
    # The longest first: after replacing a part, the whole prompt would no longer be found.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _status_failure(response: httpx2.Response, call: Call) -> LLMError:
    body = _json(response)
    error = _error_of(body)
    said = redacted(str(error.get("message") or response.reason_phrase or "-"), call)
    message = _("The provider %(provider)s returned HTTP %(status)d for model %(model)s: %(said)s") % {
        **call.names,
        "status": response.status_code,
        "said": said,
    }
    if _is_permanent(response.status_code, error):
        return LLMPermanentError(message, code="llm_http_error")
    return LLMTransientError(
        message, retry_after_s=retry_after_s(response.headers, body, datetime.now(UTC)), code="llm_http_error"
    )


def _is_permanent(status: int, error: Mapping[str, Any]) -> bool:
    if PERMANENT_CODES & {str(error.get("code")), str(error.get("type"))}:
        return True
    return status not in TRANSIENT_STATUSES and (status < 500 or status == 501)


def _error_of(body: object) -> Mapping[str, Any]:
    """Return the error object from {"error": {"message": …}}; Gemini's streams and some gateways wrap it in a list."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}


def _json(response: httpx2.Response) -> object:
    try:
        return response.json()
    except (ValueError, httpx2.StreamError):  # not JSON, or the connection broke before the body was read
        return None


def _unreachable(cause: Exception, call: Call) -> str:
    reason = redacted(str(cause) or type(cause).__name__, call).rstrip(".")
    return _("The call to the provider %(provider)s for model %(model)s failed: %(reason)s.") % {
        **call.names,
        "reason": reason,
    }


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _retry_info(body: object) -> float | None:
    details = _error_of(body).get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
            return float(delay[1]) if delay else None
    return None
