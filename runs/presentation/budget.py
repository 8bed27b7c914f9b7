"""Describe a tenant's budgets, and what its calls have cost this month."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.presentation.times import local
from runs.steps.budget import usd


def budget_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that `tenant budget` prints; `document` has the month's spending unless budgets were just set."""
    month, run = document["monthly_budget_usd"], document["run_budget_usd"]
    yield (
        _("Tenant %(id)s has no monthly budget.") % document
        if month is None
        else _("Tenant %(id)s has a budget of USD %(amount)s a month.") % {**document, "amount": _usd(month)}
    )
    yield (
        _("The tenant's runs have no budget unless their configuration has one.")
        if run is None
        else _("Each of the tenant's runs has a budget of USD %(amount)s, unless its configuration has another.")
        % {"amount": _usd(run)}
    )
    if "month" in document:
        yield from _spending_lines(document)


def _spending_lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield _(
        "In %(month)s (UTC): USD %(spent)s spent, USD %(reserved)s reserved for calls in progress, and up to USD"
        " %(possible)s possibly spent by calls whose exact cost is unknown."
    ) % {
        "month": document["month"],
        "spent": _usd(document["spent_usd"]),
        "reserved": _usd(document["reserved_usd"]),
        "possible": _usd(document["possible_usd"]),
    }
    unpriced = document["unpriced_calls"]
    if unpriced:
        yield ngettext(
            "%(n)d call lacks a price, so these amounts may be too low.",
            "%(n)d calls lack a price, so these amounts may be too low.",
            unpriced,
        ) % {"n": unpriced}
    if document["warned_at"]:
        yield _("The monthly budget's warning threshold was reached at %(time)s.") % {
            "time": local(document["warned_at"])
        }


def _usd(amount: float) -> str:
    return usd(Decimal(str(amount)))
