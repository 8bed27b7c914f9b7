"""The overhead that routing to the tenant's database adds to a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios, seconds_of
from benchmarks.tables import Row, Table

if TYPE_CHECKING:
    from tenants.models import Tenant

# Many short rounds rather than a few long ones, so that disturbances affect both sides equally.
ROUNDS = 200
GETS = 10
LISTS = 3
LISTED = 100
PLAIN = "plain"


def routing(environment: Environment) -> list[Table]:
    """Compare queries through the router, and entering a tenant's context, with plain Django."""
    from runs.models import Run
    from tenants.lifecycle.create import tenant_create
    from tenants.routing.context import tenant_context

    tenant = tenant_create(name="Routing")
    _add_plain_alias(tenant)
    key = _insert_runs(tenant)
    # Bound to its alias, this manager calls no router: plain Django at its fastest.
    plain = Run.objects.db_manager(PLAIN)

    def routed(query: Callable[[], object], times: int) -> Callable[[], float]:
        def timed() -> float:
            with tenant_context(tenant):
                query()  # takes the connection out of the pool
                return seconds_of(query, times)

        return timed

    def enter() -> None:
        with tenant_context(tenant):
            pass

    def enter_and_get() -> None:
        with tenant_context(tenant):
            Run.objects.get(pk=key)

    seconds = interleaved(
        {
            "routed get": routed(lambda: Run.objects.get(pk=key), GETS),
            "plain get": lambda: seconds_of(lambda: plain.get(pk=key), GETS),
            "routed list": routed(lambda: list(Run.objects.all()[:LISTED]), LISTS),
            "plain list": lambda: seconds_of(lambda: list(plain.all()[:LISTED]), LISTS),
            "enter": lambda: seconds_of(enter, GETS),
            "enter and get": lambda: seconds_of(enter_and_get, GETS),
        },
        rounds=ROUNDS,
        warm_up=10,
    )
    rows = [
        Row("get one row: routed ÷ plain", ratios(seconds["routed get"], seconds["plain get"]), at_most=1.05),
        Row(f"list {LISTED} rows: routed ÷ plain", ratios(seconds["routed list"], seconds["plain list"]), at_most=1.05),
        Row("enter and leave a tenant's context ÷ plain get", ratios(seconds["enter"], seconds["plain get"])),
        Row("enter, get one row, leave ÷ plain get", ratios(seconds["enter and get"], seconds["plain get"])),
    ]
    return [Table("Routing", rows)]


def _add_plain_alias(tenant: Tenant) -> None:
    """Add an alias through which plain Django connects to the tenant's database as the same role."""
    from tenants.routing.pool import add_alias, connection_settings

    add_alias(PLAIN, {**connection_settings(tenant), "ENGINE": "django.db.backends.postgresql"})


def _insert_runs(tenant: Tenant) -> UUID:
    from runs.models import Run, RunStatus
    from tenants.routing.context import tenant_context

    config = {"keyword": "coffee", "language": "en"}
    with tenant_context(tenant) as alias:
        runs = [Run(status=RunStatus.COMPLETED, config=config) for _ in range(LISTED)]
        Run.objects.using(alias).bulk_create(runs)
        return Run.objects.using(alias).values_list("pk", flat=True)[LISTED // 2]
