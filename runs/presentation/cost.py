"""Describe a run's cost in words."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from llm.prices.unit_names import NAMES, unit_name
from llm.types import LONG
from runs.types import CostDocument


def cost_text(cost: CostDocument) -> str:
    """Describe a run's cost and cache saving, and count the calls with unknown cost.

    Tokens without a known price are named if others have one; if none has, the cost is "unknown".
    """
    known = _known(cost)
    if Decimal(cost["cache_saving"] or 0) > 0:
        saved = {"known": known, "amount": _dollars(float(cost["cache_saving"] or 0))}
        known = _("%(known)s; the provider's cache saved %(amount)s") % saved
    unknown = cost["unknown_calls"]
    if not unknown:
        return known
    if cost["unknown_cost_limit"] is None:
        return ngettext(
            "%(known)s; %(n)d call with unknown cost", "%(known)s; %(n)d calls with unknown cost", unknown
        ) % {
            "known": known,
            "n": unknown,
        }
    return ngettext(
        "%(known)s; %(n)d call with unknown cost, at most %(limit)s",
        "%(known)s; %(n)d calls with unknown cost, together at most %(limit)s",
        unknown,
    ) % {"known": known, "n": unknown, "limit": _dollars(cost["unknown_cost_limit"])}


def at_least(shown: str, is_least: bool) -> str:
    """Return the amount, preceded by "at least" if `is_least` (part of the cost is unknown)."""
    return _("at least %(amount)s") % {"amount": shown} if is_least else shown


def _known(cost: CostDocument) -> str:
    tokens = _tokens(cost)
    known = cost["total_llm_cost"]
    if known is None:
        return _("unknown (%(tokens)s)") % {"tokens": tokens}
    amount = _dollars(known)
    if cost["unpriced_tokens"]:
        return _("at least %(amount)s (%(tokens)s; without a known price: %(units)s)") % {
            "amount": amount,
            "tokens": tokens,
            "units": units_text(cost["unpriced_tokens"]),
        }
    if cost["unknown_calls"]:
        return _("at least %(amount)s (%(tokens)s)") % {"amount": amount, "tokens": tokens}
    return f"{amount} ({tokens})"


def _tokens(cost: CostDocument) -> str:
    tokens = ngettext(
        "%(input)d token in, %(output)d out", "%(input)d tokens in, %(output)d out", cost["total_input_tokens"] or 0
    ) % {
        "input": cost["total_input_tokens"] or 0,
        "output": cost["total_output_tokens"] or 0,
    }
    if not cost["tokens_by_unit"]:
        return tokens
    return _("%(tokens)s, including %(units)s") % {"tokens": tokens, "units": units_text(cost["tokens_by_unit"])}


def units_text(tokens: Mapping[str, int]) -> str:
    """Return the tokens by unit as text, such as "cached input 4864, reasoning 40"."""
    order = [*NAMES, *(LONG + unit for unit in NAMES)]
    known = [unit for unit in order if unit in tokens]
    return ", ".join(f"{unit_name(unit)} {tokens[unit]}" for unit in [*known, *(tokens.keys() - set(order))])


def _dollars(amount: float) -> str:
    return f"USD {amount:.6f}"
