"""The history of models' prices in the control database. Importing this loads no price list."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.log.actor import current_actor
from audit.log.entries import record
from llm.errors import InvalidPrice
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.types import LONG, UNITS, ModelPrices

# A price has as many digits before the decimal point as the price columns of models hold, and up to 12 after it.
MAX_PRICE = Decimal(10_000)
MAX_PLACES = 12
KNOWN_UNITS = frozenset({*UNITS, *(LONG + unit for unit in UNITS)})

# The price columns of models follow when a price begins.
SHOW_IN_FORCE = """
UPDATE public.llm_models AS model
   SET cost_per_1k_input_tokens = price.input, cost_per_1k_output_tokens = price.output
  FROM (
    SELECT DISTINCT ON (model_id) model_id,
           round((prices->>'input')::numeric, 6) AS input, round((prices->>'output')::numeric, 6) AS output
      FROM public.llm_prices
     WHERE valid_from <= (statement_timestamp() AT TIME ZONE 'UTC')::date
     ORDER BY model_id, valid_from DESC, id DESC
  ) AS price
 WHERE price.model_id = model.id
   AND (model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens) IS DISTINCT FROM (price.input, price.output)
RETURNING model.provider_id || '/' || model.model_name
"""


def today() -> date:
    """Return today's date in UTC, which decides which prices are in effect."""
    return datetime.now(UTC).date()


def price_in_force(model_id: int) -> LLMPrice | None:
    """Return the row whose prices are in effect today; None if there is no such row."""
    return _of(model_id).filter(valid_from__lte=today()).order_by("-valid_from", "-id").first()


def prices_in_force(model_id: int) -> ModelPrices:
    """Return the prices that are in effect today; they are empty if no price is known."""
    row = price_in_force(model_id)
    return ModelPrices.from_document(row.prices if row else None)


def price_add(
    *, model: LLMModel, prices: ModelPrices, source: PriceSource, valid_from: date | None = None, note: str = ""
) -> LLMPrice:
    """Put prices into effect for a model from a day on (None: today), update models' price columns, and return the row.

    The caller writes the entry of the control log. Raises `InvalidPrice`.
    """
    begins = valid_from or today()
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        LLMModel.objects.using(DEFAULT_DB_ALIAS).select_for_update().get(pk=model.pk)
        require_valid(str(model), prices)
        _require_later(model, begins)
        row = LLMPrice.objects.using(DEFAULT_DB_ALIAS).create(
            model_id=model.pk,
            valid_from=begins,
            prices=prices.as_document(),
            source=source,
            made_by=current_actor().user_id,
            note=note,
        )
        columns_follow()
    return row


def columns_follow() -> list[str]:
    """Set the price columns of all models to the prices now in effect; return the names of the changed models.

    A name is "provider/model". The prices themselves are unchanged: steps take them from the history.
    """
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(SHOW_IN_FORCE)
        return sorted(name for (name,) in cursor.fetchall())


def prices_begin() -> list[str]:
    """Copy prices that have come into effect to the models' price columns; return the names of the changed models.

    A name is "provider/model". A change is recorded in the control log.
    """
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        names = columns_follow()
        if names:
            record(
                using=DEFAULT_DB_ALIAS,
                action="llm.prices.begin",
                resource_type="llm_catalogue",
                resource_id="prices",
                details={"models": names},
            )
    return names


def require_valid(model: str, prices: ModelPrices) -> None:
    """Raise `InvalidPrice` unless units, prices and threshold are valid. `model` is the model's name."""
    for unit, price in prices.units.items():
        if unit not in KNOWN_UNITS:
            raise InvalidPrice(_("Model %(model)s: there is no unit %(unit)s.") % {"model": model, "unit": repr(unit)})
        if not price.is_finite() or not 0 <= price < MAX_PRICE:
            raise InvalidPrice(
                _("Model %(model)s: the price of %(unit)s must be at least 0 and less than %(limit)s.")
                % {"model": model, "unit": unit, "limit": MAX_PRICE}
            )
        if _places(price) > MAX_PLACES:
            raise InvalidPrice(
                _("Model %(model)s: the price of %(unit)s has more than %(places)d decimal places.")
                % {"model": model, "unit": unit, "places": MAX_PLACES}
            )
    _require_threshold(model, prices)


def _require_threshold(model: str, prices: ModelPrices) -> None:
    threshold = prices.long_context_over
    if threshold is None and any(unit.startswith(LONG) for unit in prices.units):
        raise InvalidPrice(_("Model %(model)s: long-context prices need a threshold.") % {"model": model})
    if threshold is not None and not 0 < threshold < 2**31:
        raise InvalidPrice(
            _("Model %(model)s: the long-context threshold must be between 1 and 2147483647 tokens.") % {"model": model}
        )


def _require_later(model: LLMModel, begins: date) -> None:
    held = price_in_force(model.pk)
    if held is not None and begins < held.valid_from:
        raise InvalidPrice(
            _(
                "Model %(model)s: prices cannot take effect on %(date)s, because later ones have been in effect since"
                " %(since)s."
            )
            % {"model": str(model), "date": begins, "since": held.valid_from}
        )


def _places(price: Decimal) -> int:
    exponent = price.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _of(model_id: int) -> QuerySet[LLMPrice]:
    return LLMPrice.objects.using(DEFAULT_DB_ALIAS).filter(model_id=model_id)
