"""Enforce budgets: the most that a tenant's calls in a month, and the calls of a run, may cost together (ADR 0018).

A call's row reserves the most that the call can cost. The trigger that adds this amount to the month's row of
`spending` locks that row, so calls that begin at the same time are compared with the budget one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import LiteralString

from django.conf import settings
from django.db import connections, transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from runs.errors import BudgetReached
from runs.types import Claim
from tenants.routing.context import current_tenant

logger = logging.getLogger(__name__)

# Both sums include the call itself.
USED: LiteralString = """
SELECT spent_usd, reserved_usd + possible_usd, warned_at IS NOT NULL,
       (SELECT coalesce(sum(CASE WHEN call.status = 'open' THEN call.bound_usd
                                 ELSE coalesce(call.cost_usd, 0) + public.possible_usd(call) END), 0)
          FROM public.calls AS call WHERE call.run_id = %(run)s)
  FROM public.spending
 WHERE month = date_trunc('month', %(started_at)s AT TIME ZONE 'UTC')::date
"""
NOTE_WARNED: LiteralString = """
UPDATE public.spending SET warned_at = statement_timestamp()
 WHERE month = date_trunc('month', %(started_at)s AT TIME ZONE 'UTC')::date
"""


@dataclass(frozen=True)
class Budgets:
    """Budgets in US dollars; None means no budget. Falsy if neither is set."""

    month: Decimal | None
    run: Decimal | None

    def __bool__(self) -> bool:
        return self.month is not None or self.run is not None


@dataclass(frozen=True)
class BegunCall:
    """A call whose row was inserted in the current transaction."""

    id: int
    # The most that it can cost, in US dollars; None: its price is not known.
    bound_usd: Decimal | None
    started_at: datetime


@dataclass(frozen=True)
class _Used:
    """What the month's and the run's calls have used, in US dollars, including the current call's bound."""

    spent: Decimal
    # Reserved by calls in progress, and possibly spent by ended ones (`runs.models.Spending`).
    reserved: Decimal
    is_warned: bool
    run: Decimal


def budgets_of(claim: Claim) -> Budgets:
    """Return the active tenant's monthly budget, and that of the claim's run: its own, or else the tenant's per run."""
    tenant = current_tenant()
    own = claim.config.get("budget_usd") if isinstance(claim.config, Mapping) else None
    return Budgets(tenant.monthly_budget_usd, tenant.run_budget_usd if own is None else Decimal(str(own)))


def require_within(*, alias: str, claim: Claim, call: BegunCall, budgets: Budgets) -> None:
    """Raise `BudgetReached` if the call could exceed a budget; warn once a month if the monthly one is nearly used up.

    A call without a known price is refused as well, unless the setting BUDGET_ALLOWS_UNPRICED allows it. The caller's
    transaction has inserted the call, and is rolled back by the error.
    """
    if call.bound_usd is None:
        if settings.BUDGET_ALLOWS_UNPRICED:
            return
        raise _unpriced(claim)
    used = _used(alias, claim, call)
    if budgets.run is not None and _exceeds(call.bound_usd, used.run, budgets.run):
        raise _run_reached(claim, call.bound_usd, used, budgets.run)
    if budgets.month is None:
        return
    if _exceeds(call.bound_usd, used.spent + used.reserved, budgets.month):
        raise _month_reached(claim, call, used, budgets.month)
    if not used.is_warned and used.spent + used.reserved >= _threshold(budgets.month):
        _warn(alias, claim, call, used, budgets.month)


def _exceeds(bound: Decimal, used: Decimal, budget: Decimal) -> bool:
    """Return whether the call could exceed the budget; one that costs nothing never does."""
    return bound > 0 and used > budget


def _used(alias: str, claim: Claim, call: BegunCall) -> _Used:
    with connections[alias].cursor() as cursor:
        cursor.execute(USED, {"run": claim.run_id, "started_at": call.started_at})
        return _Used(*cursor.fetchone())


def _threshold(budget: Decimal) -> Decimal:
    return budget * Decimal(str(settings.BUDGET_WARNING_PERCENT)) / 100


def _warn(alias: str, claim: Claim, call: BegunCall, used: _Used, budget: Decimal) -> None:
    month = month_of(call.started_at)
    with connections[alias].cursor() as cursor:
        cursor.execute(NOTE_WARNED, {"started_at": call.started_at})
    details: dict[str, object] = {
        "month": month,
        "budget_usd": usd(budget),
        "spent_usd": usd(used.spent),
        "reserved_usd": usd(used.reserved),
    }
    record(
        using=alias, action="tenant.budget.warn", resource_type="tenant", resource_id=claim.tenant_id, details=details
    )
    extra = {"action": "tenant.budget.warn", "tenant": claim.tenant_id, **details}
    transaction.on_commit(partial(logger.warning, "budget nearly reached", extra=extra), using=alias)


def _unpriced(claim: Claim) -> BudgetReached:
    return BudgetReached(
        _(
            "Run %(run)s: the price of %(provider)s/%(model)s is not known, so step %(step)s cannot be kept within the"
            " budget."
        )
        % {"run": claim.run_id, "provider": claim.provider, "model": claim.model, "step": claim.step},
        hint=_(
            "Enter the price in the admin under Models and prices, or set BUDGET_ALLOWS_UNPRICED=true and restart the"
            " workers; then resume the run."
        ),
        code="budget_price_unknown",
    )


def _run_reached(claim: Claim, bound: Decimal, used: _Used, budget: Decimal) -> BudgetReached:
    amounts = {"run": claim.run_id, "bound": usd(bound), "budget": usd(budget), "used": usd(used.run - bound)}
    hint = _("Resume the run with a larger budget: “Raise budget” on its page, or `seo-gen run resume --budget-usd`.")
    if bound > budget:
        return BudgetReached(
            _("Run %(run)s: its next call may cost USD %(bound)s, more than its whole budget of USD %(budget)s.")
            % amounts,
            hint=hint,
            code="budget_too_small",
        )
    return BudgetReached(
        _(
            "Run %(run)s could exceed its budget of USD %(budget)s: its calls so far have cost up to USD %(used)s"
            " together, and the next one may cost USD %(bound)s."
        )
        % amounts,
        hint=hint,
        code="run_budget_reached",
    )


def _month_reached(claim: Claim, call: BegunCall, used: _Used, budget: Decimal) -> BudgetReached:
    assert call.bound_usd is not None
    amounts = {
        "id": claim.tenant_id,
        "month": month_of(call.started_at),
        "budget": usd(budget),
        "bound": usd(call.bound_usd),
        "spent": usd(used.spent),
        "reserved": usd(used.reserved - call.bound_usd),
    }
    if call.bound_usd > budget:
        return BudgetReached(
            _(
                "Tenant %(id)s: the next call may cost USD %(bound)s, more than the whole budget of USD %(budget)s for"
                " %(month)s."
            )
            % amounts,
            hint=_(
                "Raise the budget with “Set budget” on the tenant's page or `seo-gen tenant budget`, then resume the"
                " run."
            ),
            code="budget_too_small",
        )
    return BudgetReached(
        _(
            "Tenant %(id)s could exceed its budget of USD %(budget)s for %(month)s: USD %(spent)s is spent, up to"
            " USD %(reserved)s is reserved or possibly spent, and the next call may cost USD %(bound)s."
        )
        % amounts,
        hint=_(
            "Raise the budget with “Set budget” on the tenant's page or `seo-gen tenant budget`, or wait until next"
            " month; then resume the run."
        ),
    )


def month_of(moment: datetime) -> str:
    """Return the month, in UTC, in which a call that begins at this moment counts: "2026-11"."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def usd(amount: Decimal) -> str:
    """Format an amount with two decimal places, or with all of them if it has more."""
    digits = f"{amount.normalize():f}"
    return digits if len(digits.partition(".")[2]) > 2 else f"{amount:.2f}"
