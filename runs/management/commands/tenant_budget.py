from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from config.base.command import OperatorCommand, usd_amount
from runs.presentation.budget import budget_lines
from runs.selectors import spending_document
from tenants.lifecycle.budget import tenant_budget_set
from tenants.selectors import tenant_get

NONE = "none"


class Command(OperatorCommand):
    help = "Show or set what a tenant's calls may cost in a month, and in a run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument(
            "--monthly", type=_budget, metavar="USD", help="The budget of each month (UTC), or `none` for no budget."
        )
        parser.add_argument(
            "--per-run",
            type=_budget,
            metavar="USD",
            help="The budget of each run whose configuration has none, or `none` for no budget.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        given = {"monthly_budget_usd": options["monthly"], "run_budget_usd": options["per_run"]}
        budgets = {name: _amount(value) for name, value in given.items() if value is not None}
        if budgets:
            tenant = tenant_budget_set(tenant_id=options["tenant_id"], budgets=budgets)
        else:
            tenant = tenant_get(options["tenant_id"])
        document = {
            "id": tenant.id,
            "monthly_budget_usd": _number(tenant.monthly_budget_usd),
            "run_budget_usd": _number(tenant.run_budget_usd),
        }
        # Setting a budget does not need the tenant's database, which may be unreachable.
        return document if budgets else {**document, **spending_document(tenant_id=tenant.id)}

    def present(self, document: Mapping[str, Any]) -> None:
        for line in budget_lines(document):
            self.stdout.write(line)


def _budget(text: str) -> Decimal | str:
    return NONE if text == NONE else usd_amount(text)


def _amount(value: Decimal | str) -> Decimal | None:
    return None if isinstance(value, str) else value


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
