"""pydantic's findings in words for people."""

from django.utils.translation import gettext as _
from pydantic import ValidationError
from pydantic_core import ErrorDetails

_MAX_SHOWN = 60


def first_problem(error: ValidationError) -> str:
    """Describe the first finding in one clause without a full stop: where it is, and what is wrong with it."""
    finding = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in finding["loc"])
    clause = _clause(finding)
    return f"{where}: {clause}" if where else clause


def shown(value: object) -> str:
    """Quote somebody's input, shortened."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _clause(finding: ErrorDetails) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind == "missing":
        return _("is missing")
    if kind == "extra_forbidden":
        return _("is not known")
    if kind == "literal_error":
        return _("must be %(expected)s, not %(input)s") % {
            "expected": context["expected"],
            "input": shown(finding["input"]),
        }
    if kind == "string_too_long":
        return _("is longer than %(limit)d characters") % {"limit": context["max_length"]}
    if kind in {"string_too_short", "too_short"}:
        return _("is empty")
    if kind == "value_error":
        return str(context["error"])
    return _("%(problem)s, not %(input)s") % {
        "problem": finding["msg"][:1].lower() + finding["msg"][1:],
        "input": shown(finding["input"]),
    }
