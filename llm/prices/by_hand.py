"""Set prices by hand: those of all units together, or those in the model's two price columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from django.db import DEFAULT_DB_ALIAS, transaction

from audit.log.entries import record
from config.base.approvals import PRICE, require_approval
from llm.errors import PricesChanged
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices.history import price_add, prices_in_force, today
from llm.types import ModelPrices

# The price columns of a model, and the units whose prices they show.
COLUMNS = {"cost_per_1k_input_tokens": "input", "cost_per_1k_output_tokens": "output"}


def prices_set(
    *,
    model: LLMModel,
    prices: ModelPrices,
    valid_from: date | None = None,
    note: str = "",
    expected: ModelPrices | None = None,
) -> LLMPrice:
    """Put these prices, and no others, into effect for the model from a day on (None: today); return the row.

    The change is recorded in the control log. If `expected` is given, only those prices may be replaced. Raises
    `InvalidPrice`, `PricesChanged` if others are in effect by now, or what `require_approval` raises.
    """
    begins = valid_from or today()
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        LLMModel.objects.using(DEFAULT_DB_ALIAS).select_for_update().get(pk=model.pk)
        require_approval(PRICE, "", approved_arguments(model, prices, begins))
        old = prices_in_force(model.pk)
        if expected is not None and expected.as_document() != old.as_document():
            raise PricesChanged(str(model))
        row = price_add(model=model, prices=prices, source=PriceSource.HAND, valid_from=valid_from, note=note)
        record(
            using=DEFAULT_DB_ALIAS,
            action="llm.prices.set",
            resource_type="llm_model",
            resource_id=str(model.pk),
            details={
                "model": str(model),
                "valid_from": row.valid_from.isoformat(),
                "old": old.as_document(),
                "new": prices.as_document(),
            },
        )
    return row


def columns_set(*, model: LLMModel, columns: Mapping[str, Decimal | None]) -> None:
    """Put these columns' prices (None: unknown) into effect today; other units keep their prices.

    The caller writes the audit entry. Raises `InvalidPrice`, or what `require_approval` raises.
    """
    held = prices_in_force(model.pk)
    units = dict(held.units)
    for column, price in columns.items():
        units.pop(COLUMNS[column], None)
        if price is not None:
            units[COLUMNS[column]] = price
    prices = ModelPrices(units, held.long_context_over)
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        require_approval(PRICE, "", approved_arguments(model, prices, today()))
        price_add(model=model, prices=prices, source=PriceSource.HAND)


def approved_arguments(model: LLMModel, prices: ModelPrices, valid_from: date) -> dict[str, object]:
    """Return what a second person approves, if the settings demand that.

    It names the model, the day, the new prices, and those in effect now.
    """
    return {
        "replaces": prices_in_force(model.pk).as_document(),
        "model": str(model),
        "model_id": model.pk,
        "valid_from": valid_from.isoformat(),
        "prices": prices.as_document(),
    }
