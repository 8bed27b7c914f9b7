"""Admin pages for what a tenant's runs cost.

Each row of the view `run_costs` adds up a run's steps, so this module reads no more rows than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Lookup, OrderBy, OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from config.site.admin_base import (
    ReadOnlyAdmin,
)
from runs.admin.cells import (
    cost_of,
    count,
    exact_usd,
    input_of,
    money,
    run_link,
    units,
)
from runs.models import Run, RunCost
from runs.presentation.cost import at_least

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    BoolLookup = Lookup[bool]
else:
    from unfold.views import ChangeList

    BoolLookup = Lookup

# Up to this many runs are added up on each page, which takes a fraction of a second. More only on
# request.
MAX_TOTALLED = 5_000
RUN = "run__"


class AnyOf(BoolLookup):
    """Whether a value is in an array.

    PostgreSQL pushes this condition down into the view, but applies `IN (SELECT …)` only to the
    view's result.
    """

    lookup_name = "any_of"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        value, value_params = self.process_lhs(compiler, connection)
        array, array_params = self.process_rhs(compiler, connection)
        return f"{value} = ANY ({array})", [*value_params, *array_params]


class TotalsFilter(admin.SimpleListFilter):
    """Whether the costs of all runs listed are added up, however many they are. Staff set it with a link."""

    title = gettext_lazy("totals")
    parameter_name = "totals"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return False

    def queryset(self, request: HttpRequest, queryset: QuerySet[RunCost]) -> QuerySet[RunCost]:
        return queryset


class RunCostList(ChangeList):
    """Pages through the runs, and then reads the costs of those on the page.

    If the URL has other lookups than the list's filters, it pages through the costs instead.
    """

    # What the URL filters by in addition to the list's own filters.
    other_lookups: Any

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        self.other_lookups = found[2]
        return found

    def get_results(self, request: HttpRequest) -> None:
        if self.other_lookups:
            super().get_results(request)
            return
        costs = self.queryset
        self.queryset: Any = self.runs().order_by(*map(_run_order, costs.query.order_by)).prefetch_related("cost")
        super().get_results(request)
        self.result_list: Any = [cost_of(run) or _no_cost(run) for run in self.result_list]
        self.queryset = costs

    def runs(self) -> QuerySet[Run]:
        """Return the runs that match the list's filters."""
        runs = Run.objects.using(self.root_queryset.db)
        for spec in self.filter_specs:
            found: dict[str, Any] = {name.removeprefix(RUN): values for name, values in spec.used_parameters.items()}
            runs = runs.filter(build_q_object_from_lookup_parameters(found))
        return runs

    def totals(self) -> dict[str, str | None]:
        """Return the sums of the costs that match the list's filters, on all its pages."""
        if self.other_lookups:
            return _totals(self.queryset)
        costs = RunCost.objects.using(self.root_queryset.db)
        runs = self.runs()
        if runs.query.where:
            costs = costs.filter(AnyOf(F("run_id"), ArraySubquery(runs.order_by().values("pk"))))
        return _totals(costs)


class RunCostAdmin(ReadOnlyAdmin):
    audit_resource = "run"
    list_display = ("run_link", "created_at", "input_tokens", "cached_tokens", "output_tokens", "shown_cost")
    list_display_links = None
    list_filter = ("run__created_at", "run__status", TotalsFilter)
    list_select_related = ("run",)
    ordering = ("-run__created_at",)
    show_full_result_count = False
    fields = (
        *("run_link", "input_tokens", "output_tokens", "shown_units", "shown_cost", "exact_cost", "shown_unpriced"),
        *("unpriced_steps", "unknown_calls", "unknown_cost_limit"),
    )
    list_before_template = "admin/run_cost_totals.html"

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page: Any = super().get_changelist_instance(request)
        # No link of the page keeps it, so that no one waits for the same totals on each page of the list.
        is_asked = page.filter_params.pop(TotalsFilter.parameter_name, None) is not None
        page.totals = page.totals() if is_asked or page.result_count <= MAX_TOTALLED else None
        page.totals_url = page.get_query_string({TotalsFilter.parameter_name: "all"})
        return page

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunCostList

    @admin.display(description=gettext_lazy("input tokens"), ordering="total_input_tokens")
    def input_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_input_tokens)

    @admin.display(description=gettext_lazy("cached input"))
    def cached_tokens(self, cost: RunCost) -> str | None:
        return count(cost.tokens_by_unit.get("cached_read"))

    @admin.display(description=gettext_lazy("token breakdown"))
    def shown_units(self, cost: RunCost) -> str | None:
        return units(cost.tokens_by_unit)

    @admin.display(description=gettext_lazy("tokens without a price"))
    def shown_unpriced(self, cost: RunCost) -> str | None:
        return units(cost.unpriced_tokens)

    @admin.display(description=gettext_lazy("exact cost (USD)"))
    def exact_cost(self, cost: RunCost) -> str | None:
        exact = exact_usd(cost.total_llm_cost)
        return at_least(exact, bool(cost.unpriced_steps or cost.unknown_calls)) if exact else None

    @admin.display(description=gettext_lazy("output tokens"), ordering="total_output_tokens")
    def output_tokens(self, cost: RunCost) -> str | None:
        return count(cost.total_output_tokens)

    @admin.display(description=gettext_lazy("run"))
    def run_link(self, cost: RunCost) -> SafeString:
        return run_link(cost.run_id, input_of(cost.run, "keyword"))

    @admin.display(description=gettext_lazy("created"), ordering="run__created_at")
    def created_at(self, cost: RunCost) -> object:
        return cost.run.created_at

    @admin.display(description=gettext_lazy("cost (USD)"), ordering="total_llm_cost")
    def shown_cost(self, cost: RunCost) -> str | None:
        return money(cost.total_llm_cost, cost.unpriced_steps, cost.unknown_calls)


def _totals(costs: QuerySet[RunCost]) -> dict[str, str | None]:
    totals = costs.order_by().aggregate(
        cost=Sum("total_llm_cost"),
        input_tokens=Sum("total_input_tokens"),
        output_tokens=Sum("total_output_tokens"),
        unpriced=Sum("unpriced_steps"),
        unknown=Sum("unknown_calls"),
    )
    return {
        "cost": money(totals["cost"], totals["unpriced"] or 0, totals["unknown"] or 0),
        "input_tokens": count(totals["input_tokens"]),
        "output_tokens": count(totals["output_tokens"]),
    }


def _run_order(part: Any) -> str | OrderBy:
    """Translate one part of an ordering of costs into an ordering of their runs."""
    name = str(part).removeprefix("-")
    is_descending = name != part
    if name.startswith("total_"):
        cost = Subquery(RunCost.objects.filter(run=OuterRef("pk")).values(name))
        return cost.desc() if is_descending else cost.asc()
    return f"-{name.removeprefix(RUN)}" if is_descending else name.removeprefix(RUN)


def _no_cost(run: Run) -> RunCost:
    """Return an empty cost for a run without steps, which has no row in the view."""
    return RunCost(run=run, unpriced_steps=0, unknown_calls=0, tokens_by_unit={})
