"""The prices that a step keeps from its first claim, so that a later change of prices changes no past cost."""

from decimal import Decimal

from llm.selectors import prices_of
from runs.models import Step


def price_snapshot(row: Step) -> dict[str, Decimal | None]:
    """Return the columns of the step that hold the present prices of its model; None for a price that is not set."""
    return prices_of(str(row.llm_provider), str(row.llm_model))
