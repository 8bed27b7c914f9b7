"""Read the body and the headers of a failed call: what the provider says, and whether a retry may help."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

# In addition to 5xx: timeout, conflict (OpenAI and Claude say to retry), too early, rate limit.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
# OpenAI sends these with 429 if the account is out of money, not over a rate limit.
PERMANENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# The names of errors in streams, where they have no HTTP status: Claude's, Gemini's, and those of OpenAI and compatible
# servers.
STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "service_unavailable": 503,
    "badrequesterror": 400,
    "notfounderror": 404,
    "internalservererror": 500,
    "overloaded": 503,
    "timeout": 504,
}
# Of Gemini, which sends a refused key with status 400.
INVALID_KEYS = frozenset({"api_key_invalid", "invalid_api_key", "authentication_error"})
MAX_ID_CHARS = 200
# How many of the problems in a validation error are quoted.
MAX_DETAILS = 5


def retry_after_s(headers: Mapping[str, str], body: object, now: datetime) -> float | None:
    """Return how many seconds the provider asks us to wait, or None.

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


def request_id_of(headers: Mapping[str, str], body: object = None) -> str:
    """Return the provider's own id of the call, or "".

    It is the header `request-id` (Claude) or `x-request-id` (OpenAI and most gateways), or else the body's
    `request_id`.
    """
    stated = headers.get("request-id") or headers.get("x-request-id")
    if not stated and isinstance(body, dict) and isinstance(body.get("request_id"), str):
        stated = body["request_id"]
    return "".join(char for char in stated or "" if char.isascii() and char.isprintable())[:MAX_ID_CHARS]


def sentence_of(body: object) -> str:
    """Return the provider's own words from an error's body, or "" if there are none.

    Known forms are {"error": {"message": …}}, which Gemini's streams and some gateways wrap in a list, {"error": "…"},
    {"message": "…"} and FastAPI's {"detail": "…"} or {"detail": [{"loc": …, "msg": …}]}.
    """
    error = error_of(body)
    for name in ("message", "detail", "msg", "error", "title"):
        if said := _said(error.get(name)):
            return said
    return ""


def _said(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):
        place = ".".join(str(each) for each in value["loc"]) if isinstance(value.get("loc"), list) else ""
        said = _said(value.get("msg") or value.get("message"))
        return f"{place}: {said}" if place and said else said
    if isinstance(value, list):
        return "; ".join(filter(None, map(_said, value[:MAX_DETAILS])))
    return ""


class Fault(Enum):
    """The cause that an HTTP status and its body indicate."""

    KEY = auto()
    QUOTA = auto()
    RATE = auto()
    MODEL = auto()
    URL = auto()
    OTHER = auto()


def fault_of(status: int, body: object) -> Fault:
    """Return the cause. A 404 means an unknown model if the body mentions a model, and an unknown path otherwise."""
    error = error_of(body)
    if names_permanent(error) or status == 402:
        return Fault.QUOTA
    if status in (401, 403) or _names_invalid_key(error):
        return Fault.KEY
    if status == 429:
        return Fault.RATE
    if "model_not_found" in (error.get("code"), error.get("type")):
        return Fault.MODEL
    if status == 404:
        return Fault.MODEL if "model" in sentence_of(body).lower() else Fault.URL
    return Fault.OTHER


def _names_invalid_key(error: Mapping[str, Any]) -> bool:
    details = error.get("details")
    reasons = [one.get("reason") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    return not INVALID_KEYS.isdisjoint(str(name).lower() for name in (error.get("code"), error.get("type"), *reasons))


def is_permanent(status: int, error: Mapping[str, Any]) -> bool:
    if names_permanent(error):
        return True
    return status not in TRANSIENT_STATUSES and (status < 500 or status == 501)


def names_permanent(error: Mapping[str, Any]) -> bool:
    return bool(PERMANENT_CODES & {str(error.get("code")), str(error.get("type"))})


def status_of(error: Mapping[str, Any]) -> int | None:
    """Return the HTTP status that an error in a successful response states or implies, or None."""
    for name in ("code", "status", "status_code", "type"):
        value = error.get(name)
        if isinstance(value, bool):
            continue
        if isinstance(value, str):
            value = int(value) if re.fullmatch(r"[1-5]\d\d", value) else STATUSES.get(value.lower())
        if isinstance(value, int) and 300 <= value < 600:
            return value
    return None


def error_of(body: object) -> Mapping[str, Any]:
    """Return the error object of a body: the value of "error" (as {"message": …} unless it is an object), or the body.

    The first item of a list counts as the body. Returns {} if the body is not an object.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error") or body
    return error if isinstance(error, dict) else {"message": error}


def json_of(body: bytes) -> object:
    """Return the parsed body of an error, or None if it is not JSON, for example because the connection broke."""
    try:
        return json.loads(body.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


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
    details = error_of(body).get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
            return float(delay[1]) if delay else None
    return None
