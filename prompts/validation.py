"""Describe pydantic's errors to people, and check that jsonb can store a document."""

import json
import re

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import ValidationError
from pydantic_core import ErrorDetails

_MAX_SHOWN = 60
# A NUL as json.dumps writes it, but not the same six characters after an escaped backslash.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# pydantic's error types that only say which JSON type is expected.
_EXPECTED = {
    "string_type": gettext_lazy("a string"),
    "bool_type": gettext_lazy("true or false"),
    "list_type": gettext_lazy("a list"),
    "dict_type": gettext_lazy("an object"),
    "model_type": gettext_lazy("an object"),
}


def first_problem(error: ValidationError) -> str:
    """Describe the first error in one clause without a full stop, such as "language must be ja or en, not 'fr'"."""
    finding = error.errors(include_url=False)[0]
    # Positions count from 0, as in JSONPath: steps[0].provider.
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in finding["loc"]).lstrip(".")
    return f"{where} {_clause(finding)}".lstrip()


def is_storable(document: object) -> bool:
    """Return whether jsonb can store the document: no U+0000, unpaired surrogate, NaN or infinity in it."""
    try:
        encoded = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    # Also what a lone surrogate raises.
    except ValueError:
        return False
    return not _NUL.search(encoded)


def shown(value: object) -> str:
    """Return an input as Python would write it, shortened, for a message."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _clause(finding: ErrorDetails) -> str:
    context = finding.get("ctx", {})
    match finding["type"]:
        case "missing":
            clause = _("is missing")
        case "extra_forbidden":
            clause = _("is not a known field")
        case "string_too_short" | "too_short":
            clause = _("is empty")
        case "too_long" if isinstance(finding["input"], list):
            clause = _("has more than %(limit)d elements") % {"limit": context["max_length"]}
        case "string_too_long" | "too_long":
            clause = _("is longer than %(limit)d characters") % {"limit": context["max_length"]}
        case "value_error":
            clause = str(context["error"])
        case kind:
            clause = _wrong_value(context.get("expected") or _EXPECTED.get(kind), finding["input"])
    return clause


def _wrong_value(expected: object, value: object) -> str:
    if expected:
        return _("must be %(expected)s, not %(input)s") % {"expected": expected, "input": shown(value)}
    return _("cannot be %(input)s") % {"input": shown(value)}
