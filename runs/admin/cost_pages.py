"""Pages of costs over time: of one tenant on its own site, and of all visible tenants on the control site.

They read only the control database's daily costs.
"""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any

from django import forms
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.http import content_disposition_header, urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from audit.log.entries import record
from config.base.output import CENT_HUNDREDTH
from runs.costs.show import GROUPS, Chosen, costs_chosen, total_of
from runs.presentation.cost import at_least
from runs.presentation.costs import cost_cells, cost_columns, cost_csv, cost_text
from runs.steps.budget import usd
from runs.types import CostRow

# A chart with more bars is not legible; the table has all rows.
MAX_BARS = 62
# Their rows are in the order of time; others begin with the most expensive one, in the chart and in the table.
BY_TIME = ("day", "month")
TEMPLATE = "admin/costs.html"
COLOR = "var(--color-"


class CostsForm(forms.Form):
    """Which costs are shown, and how they are grouped. If the URL has no days, the current month (UTC) is shown."""

    by = forms.ChoiceField(
        label=gettext_lazy("Group by"),
        required=False,
        widget=UnfoldAdminSelectWidget,
        choices=[
            ("day", gettext_lazy("day")),
            ("month", gettext_lazy("month")),
            ("step", gettext_lazy("step")),
            ("model", gettext_lazy("model")),
            ("tenant", gettext_lazy("tenant")),
        ],
    )
    first = forms.DateField(
        label=gettext_lazy("From"),
        required=False,
        input_formats=["%Y-%m-%d"],
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
    )
    last = forms.DateField(
        label=gettext_lazy("To"),
        required=False,
        input_formats=["%Y-%m-%d"],
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
    )
    tenant = forms.ChoiceField(label=gettext_lazy("Tenant"), required=False, widget=UnfoldAdminSelectWidget)
    step = forms.ChoiceField(label=gettext_lazy("Step"), required=False, widget=UnfoldAdminSelectWidget)
    model = forms.ChoiceField(label=gettext_lazy("Model"), required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, data: Any, *, scope: Chosen, is_fleet: bool) -> None:
        super().__init__({"by": "day", "first": str(scope.first), "last": str(scope.last), **data})
        self.scope = scope
        self._offer("tenant", scope.tenant_ids or ())
        self._offer("step", [row["name"] for row in costs_chosen(Chosen(scope.tenant_ids), by="step")])
        self._offer("model", [row["name"] for row in costs_chosen(Chosen(scope.tenant_ids), by="model")])
        if not is_fleet:
            del self.fields["tenant"]
            by: Any = self.fields["by"]
            by.choices = [choice for choice in by.choices if choice[0] != "tenant"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and first > last:
            self.add_error("last", _("The last day is before the first one."))
        return cleaned

    def chosen(self) -> Chosen:
        """Return what was chosen; if any value is invalid, return the form's `scope`."""
        if not self.is_valid():
            return self.scope
        given = self.cleaned_data
        return replace(
            self.scope,
            tenant_ids=[given["tenant"]] if given.get("tenant") else self.scope.tenant_ids,
            first=given["first"],
            last=given["last"],
            step=given["step"] or None,
            model=given["model"] or None,
        )

    @property
    def group(self) -> str:
        by = self.cleaned_data.get("by") if self.is_valid() else ""
        return by if by in GROUPS else "day"

    def _offer(self, name: str, values: Sequence[str]) -> None:
        field: Any = self.fields[name]
        field.choices = [("", _("all")), *((value, value) for value in values)]


def costs_page(
    request: HttpRequest, *, context: dict[str, Any], budgets: Mapping[str, Decimal | None], using: str, is_fleet: bool
) -> HttpResponse:
    """Return the page that shows what the calls of some tenants cost, or its table as CSV.

    `budgets` holds the monthly budget of each of these tenants by its id. `using` is the database whose audit log
    records a download.
    """
    today = datetime.now(UTC).date()
    month = Chosen(list(budgets), first=today.replace(day=1), last=today)
    form = CostsForm(request.GET.dict(), scope=month, is_fleet=is_fleet)
    chosen, by = form.chosen(), form.group
    rows = costs_chosen(chosen, by=by)
    if by not in BY_TIME:
        rows = _dearest_first(rows)
    if request.GET.get("format") == "csv" and form.is_valid():
        return _download(by, rows, chosen, using)
    limits = [budgets[tenant_id] for tenant_id in chosen.tenant_ids or ()]
    set_limits = [limit for limit in limits if limit is not None]
    # A sum that leaves tenants out is no limit for what all of them spend.
    budget = sum(set_limits, Decimal(0)) if set_limits and len(set_limits) == len(limits) else None
    spent = total_of(costs_chosen(Chosen(chosen.tenant_ids, month.first, today), by="month"))
    query = urlencode({**request.GET.dict(), "format": "csv"})
    bars = _with_empty_days(rows, chosen, today) if by == "day" else rows
    cells = cost_cells([_rounded(row) for row in rows])
    chart = _chart(bars, by, _budget_line(budget, chosen, by, today))
    shown = {
        "title": _("Costs"),
        "form": form,
        # The form's error says what is wrong, but not what the page shows instead.
        "shown_instead": None if form.is_valid() else {"first": str(month.first), "last": str(month.last)},
        "total": cost_text(_rounded(total_of(rows))) if rows else None,
        "calls": f"{total_of(rows)['calls']:,}",
        "columns": cost_columns(by),
        "rows": cells[: len(rows)],
        "total_row": cells[-1] if len(cells) > len(rows) else None,
        "chart": json.dumps(chart) if rows else None,
        "legend": [(one["label"], one["backgroundColor"].removeprefix(COLOR)[:-1]) for one in chart["datasets"]],
        "is_cut": len(bars) > MAX_BARS,
        "month": f"{today:%Y-%m}",
        "spent": cost_text(_rounded(spent)) if spent["calls"] else usd(Decimal(0)),
        "budget": usd(sum(set_limits, Decimal(0))) if set_limits else None,
        "without_budget": len(limits) - len(set_limits),
        "sweep_s": f"{settings.RUN_SWEEP_INTERVAL_S:g}",
        "forecast": forecast_text(spent, today),
        "csv_url": f"?{query}",
    }
    return TemplateResponse(request, TEMPLATE, {**context, **shown})


def _rounded(row: CostRow) -> CostRow:
    """Round the cost so that it fits on the page; the CSV is exact. A cost is never rounded to 0."""
    amount = row["cost_usd"]
    rounded = None if amount is None else amount.quantize(CENT_HUNDREDTH)
    return {**row, "cost_usd": rounded or amount}


def forecast_text(spent: CostRow, today: date) -> str:
    """Return what the month will cost if the remaining days cost as much, on average, as those up to today."""
    if spent["cost_usd"] is None:
        return _("unknown") if spent["calls"] else usd(Decimal(0))
    days = monthrange(today.year, today.month)[1]
    amount = usd((spent["cost_usd"] * days / today.day).quantize(CENT_HUNDREDTH))
    return at_least(amount, bool(spent["unknown_calls"] or spent["unpriced_calls"]))


def _budget_line(budget: Decimal | None, chosen: Chosen, by: str, today: date) -> Decimal | None:
    """Return the budget if the chart shows all costs of the current month by day, from the first day on; else None."""
    is_month = chosen.first == today.replace(day=1) and chosen.last is not None and chosen.last >= today
    is_whole = chosen.step is None and chosen.model is None
    return budget if by == "day" and is_month and is_whole else None


def _with_empty_days(rows: Sequence[CostRow], chosen: Chosen, today: date) -> Sequence[CostRow]:
    """Return a row for each chosen day up to today, with or without calls; none if no day has any.

    If there are more days than the chart can show, return only the newest, one more than fits.
    """
    if not rows:
        return rows
    first = chosen.first or date.fromisoformat(rows[0]["name"])
    last = max(min(chosen.last or today, today), date.fromisoformat(rows[-1]["name"]))
    found = {row["name"]: row for row in rows}
    # One day more than fits shows that the chart is truncated.
    days = [last - timedelta(days=number) for number in range(min((last - first).days, MAX_BARS), -1, -1)]
    return [found.get(str(day), {**total_of(()), "name": str(day), "cost_usd": Decimal(0)}) for day in days]


def _chart(rows: Sequence[CostRow], by: str, budget: Decimal | None) -> dict[str, Any]:
    shown = rows[-MAX_BARS:] if by in BY_TIME else rows[:MAX_BARS]
    amounts = [row["cost_usd"] for row in shown]
    bars: list[dict[str, Any]] = [
        {
            "label": _("Cost (USD)"),
            # An unknown cost has no bar; it is not 0.
            "data": [None if amount is None else float(amount) for amount in amounts],
            "backgroundColor": "var(--color-primary-600)",
            "displayYAxis": True,
            "suffixYAxis": _("USD"),
            "maxBarThickness": 28,
        }
    ]
    if budget is not None:
        sums = accumulate(amount or Decimal(0) for amount in amounts)
        bars += [
            _line(_("Month to date (USD)"), [float(one) for one in sums], "var(--color-primary-300)"),
            _line(_("Monthly budget (USD)"), [float(budget)] * len(shown), "var(--color-red-600)"),
        ]
    return {"labels": [row["name"] for row in shown], "datasets": bars}


def _line(label: str, data: list[float], color: str) -> dict[str, Any]:
    return {"type": "line", "label": label, "data": data, "borderColor": color, "backgroundColor": color}


def _dearest_first(rows: Sequence[CostRow]) -> list[CostRow]:
    return sorted(rows, key=lambda row: row["cost_usd"] or Decimal(0), reverse=True)


def _download(by: str, rows: Sequence[CostRow], chosen: Chosen, using: str) -> HttpResponse:
    details: dict[str, object] = {
        "by": by,
        "from": str(chosen.first or ""),
        "until": str(chosen.last or ""),
        "rows": len(rows),
    }
    with transaction.atomic(using=using):
        record(using=using, action="cost.export", resource_type="costs", resource_id=by, details=details)
    name = f"costs-{by}-{chosen.first or 'all'}-{chosen.last or 'all'}.csv"
    return HttpResponse(
        cost_csv(by, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": content_disposition_header(True, name) or ""},
    )
