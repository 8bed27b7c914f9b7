"""The recent costs of all visible tenants, compared with their budgets. Reads only the control database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum, Value, Window
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from config.base.output import dollars
from config.site.home.sections import ROWS_MAX, Row, Section
from runs.summaries.models import DailyCost
from tenants.models import Tenant

DAYS = 31
ZERO = Decimal(0)


@dataclass(frozen=True)
class Day:
    day: date
    usd: Decimal


@dataclass(frozen=True)
class Spending:
    """Amounts in US dollars. Days and months are in UTC, as for budgets."""

    today: Decimal
    month: Decimal
    # One entry for each of the last days, oldest first, days without calls included.
    days: list[Day]
    # The sum of the tenants' monthly budgets; None if no tenant has one.
    budget: Decimal | None

    @property
    def chart(self) -> str:
        """Return the data of the bar chart as the JSON that the theme's script reads."""
        bars = {
            "label": "USD",
            "data": [float(round(one.usd, 6)) for one in self.days],
            "backgroundColor": "var(--color-primary-500)",
            "maxBarThickness": 14,
            "displayYAxis": True,
        }
        return json.dumps({"labels": [f"{one.day:%m-%d}" for one in self.days], "datasets": [bars]})


def spending_of(visible: QuerySet[Tenant], budget: Decimal | None) -> Spending:
    today = datetime.now(UTC).date()
    first = today - timedelta(days=DAYS - 1)
    costs = DailyCost.objects.using(CONTROL).filter(tenant__in=visible, day__gte=first, day__lte=today)
    by_day = dict(costs.order_by().values_list("day").annotate(usd=_used()))
    days = [Day(first + timedelta(days=n), by_day.get(first + timedelta(days=n)) or ZERO) for n in range(DAYS)]
    month = sum((one.usd for one in days if one.day >= today.replace(day=1)), ZERO)
    return Spending(today=days[-1].usd, month=month, days=days, budget=budget)


def budget_of(totals: list[dict[str, Any]]) -> Decimal | None:
    """Return the sum of the tenants' monthly budgets (`fleet_totals`); None if no tenant has one."""
    budgets = [one["budget"] for one in totals if one["budget"] is not None]
    return sum(budgets, ZERO) if budgets else None


def budgets_section(visible: QuerySet[Tenant]) -> Section:
    """Return the section with the tenants whose monthly budget is running low or used up, the least left first."""
    month = datetime.now(UTC).date().replace(day=1)
    costs = DailyCost.objects.using(CONTROL).filter(tenant=OuterRef("pk"), day__gte=month).order_by()
    used = costs.values("tenant").annotate(usd=_used()).values("usd")
    percent = Decimal(str(settings.BUDGET_WARNING_PERCENT))
    short = (
        visible.select_related(None)
        .only("name", "monthly_budget_usd")
        .filter(monthly_budget_usd__isnull=False)
        .annotate(used=Coalesce(Subquery(used), Value(ZERO)), left=F("monthly_budget_usd") - F("used"))
        .filter(used__gte=F("monthly_budget_usd") * percent / 100)
        .annotate(total=Window(Sum(Value(1))))
        .order_by("left", "pk")
    )
    found = [vars(tenant) for tenant in short[:ROWS_MAX]]
    rows = [_budget_row(**{name: one[name] for name in ("id", "name", "used", "monthly_budget_usd")}) for one in found]
    title, empty = _("Budgets running low"), _("No monthly budget is running low.")
    return Section("budgets", title, empty, rows, found[0]["total"] if found else 0)


def _budget_row(*, id: str, name: str, used: Decimal, monthly_budget_usd: Decimal) -> Row:  # noqa: A002
    is_spent = used >= monthly_budget_usd
    return Row(
        text=name,
        url=reverse("admin:tenants_tenant_change", args=[id]),
        badge=_("used up") if is_spent else _("running low"),
        color="danger" if is_spent else "warning",
        tenant=id,
        detail=_("%(used)s of %(budget)s USD") % {"used": dollars(used), "budget": dollars(monthly_budget_usd)},
    )


def _used() -> Coalesce:
    """Return the SQL expression for what calls cost, plus what they may have cost beyond that."""
    return Coalesce(Sum(Coalesce("cost_usd", Value(ZERO)) + Coalesce("possible_usd", Value(ZERO))), Value(ZERO))
