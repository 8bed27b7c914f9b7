"""Names that people read for the units of usage and of prices, and for the threshold beside prices."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llm.types import LONG

NAMES = {
    "input": gettext_lazy("input"),
    "output": gettext_lazy("output"),
    "cached_read": gettext_lazy("cached input"),
    "cache_write_5m": gettext_lazy("cache write (5 minutes)"),
    "cache_write_1h": gettext_lazy("cache write (1 hour)"),
    "reasoning": gettext_lazy("reasoning"),
}
# The key of a price document that holds no price: the input tokens from which a call has the prices of a long context.
THRESHOLD = "long_context_over"


def unit_name(unit: str) -> str:
    """Return the name of a unit or of the threshold; an unknown unit is returned unchanged."""
    if unit == THRESHOLD:
        return _("long context above (tokens)")
    base = unit.removeprefix(LONG)
    if base not in NAMES:
        return unit
    name = str(NAMES[base])
    return name if base == unit else _("%(unit)s (long context)") % {"unit": name}
