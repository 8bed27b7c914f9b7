"""pydantic's findings in words for people."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import ValidationError
from pydantic_core import ErrorDetails

_MAX_SHOWN = 60
# pydantic's kinds of finding that only say which JSON type belongs there.
_EXPECTED = {
    "string_type": gettext_lazy("a string"),
    "bool_type": gettext_lazy("true or false"),
    "list_type": gettext_lazy("a list"),
    "dict_type": gettext_lazy("an object"),
    "model_type": gettext_lazy("an object"),
}


def first_problem(error: ValidationError) -> str:
    """Describe the first finding in one clause without a full stop, such as "language must be 'ja' or 'en', not 'fr'"."""
    finding = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in finding["loc"])
    return f"{where} {_clause(finding)}".lstrip()


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
    if kind in {"string_too_long", "too_long"}:
        return _("is longer than %(limit)d characters") % {"limit": context["max_length"]}
    if kind in {"string_too_short", "too_short"}:
        return _("is empty")
    if kind == "value_error":
        return str(context["error"])
    if kind in _EXPECTED:
        return _("must be %(expected)s, not %(input)s") % {
            "expected": _EXPECTED[kind],
            "input": shown(finding["input"]),
        }
    return _("cannot be %(input)s") % {"input": shown(finding["input"])}
