"""Whatever an SDK raises becomes an `LLMTransientError` or an `LLMPermanentError` here, once."""

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

# Besides 5xx: time-out, conflict (OpenAI and Claude: try again), too early, rate limit.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
# Sent with 429 by OpenAI where the account has run out of money, not of requests per minute.
PERMANENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
MAX_MESSAGE_CHARS = 500
# Shorter texts occur by chance in a provider's message.
MIN_REDACTED_CHARS = 12


@dataclass(frozen=True)
class Call:
    """What failed, for the messages; `key` and the request's texts never get into one."""

    provider_id: str
    request: LLMRequest
    key: str = field(default="", repr=False)

    @property
    def names(self) -> dict[str, object]:
        return {"provider": self.provider_id, "model": self.request.model, "timeout": self.request.timeout_s}


@contextmanager
def translated(call: Call) -> Iterator[None]:
    """Translate an SDK's failure inside the block; whatever is not one passes, since it is a defect of ours.

    The original is not chained (`from None`): it repeats the provider's body, which may quote prompt and key, and would
    stand in every logged traceback.
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

    The SDKs wrap httpx2's exceptions, or let them through; the first that says something is taken.
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
    """Return the error for a body that is not what the API documents: mostly a gateway's page, or cut."""
    return LLMTransientError(
        _("The provider %(provider)s answered for model %(model)s with something that is not a reply.") % call.names,
        hint=_("If this stays so, check the provider's API base URL."),
        code="llm_reply_malformed",
    )


def retry_after_s(headers: Mapping[str, str], body: object, now: datetime) -> float | None:
    """Return the seconds the provider asks to wait, or None.

    OpenAI sends `retry-after-ms` too, which is finer; Gemini sends no header but `google.rpc.RetryInfo` in the body.
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
    """Return a provider's words on one line, shortened, without the key and without what they quote of the request."""
    texts = [call.request.prompt, call.request.system]
    quotable = [*texts, *(line.strip() for whole in texts for line in whole.splitlines())]
    secrets = [call.key, *(quote for quote in quotable if len(quote) >= MIN_REDACTED_CHARS)]
    # The longest first: a part of the whole prompt must not spoil the search for the whole.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _status_failure(response: httpx2.Response, call: Call) -> LLMError:
    body = _json(response)
    error = _error_of(body)
    said = redacted(str(error.get("message") or response.reason_phrase or "-"), call)
    message = _("The provider %(provider)s answered HTTP %(status)d for model %(model)s: %(said)s") % {
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
    """All providers wrap it as {"error": {"message": …}}; Gemini's streams and some gateways put a list around."""
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
    return _("The call of the provider %(provider)s for model %(model)s failed: %(reason)s.") % {
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
