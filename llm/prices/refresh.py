"""Compare the prices with the public price list, and apply what the list says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from django.db import DEFAULT_DB_ALIAS, transaction
from genai_prices.data_snapshot import DataSnapshot

from audit.log.entries import Details, record
from llm.errors import ComparisonOutdated, PriceByHand, UnknownModel
from llm.models import LLMModel, LLMPrice, PriceSource
from llm.prices.history import price_add, today
from llm.prices.price_list import ListedModel, current_list, installed_list, listed
from llm.prices.types import PriceChange, PricesReport
from llm.types import ModelPrices


def prices_compare(*, online: bool = False) -> PricesReport:
    """Return how all models' prices differ from the list, and change nothing; `online` fetches today's list.

    Raises `PricesUnavailable`.
    """
    return compare_with(current_list() if online else installed_list())


def prices_apply(
    *,
    models: Collection[str] | None = None,
    online: bool = False,
    overwrite: bool | Collection[str] = False,
    expected: str | None = None,
) -> PricesReport:
    """Apply the list to these models ("provider/model"; None: all) in one transaction, and return the report.

    The list's prices are added to the history, and models are marked or unmarked as being retired. Prices set by hand
    are kept, unless `overwrite` is true or names their model. Recorded costs do not change. `expected` is the digest of
    the comparison that a person saw, if any. Raises `PricesUnavailable`, `UnknownModel`, `ComparisonOutdated` if the
    digest has changed since, `PriceByHand` if prices set by hand would have to be overwritten for a model named in
    `models`, or `InvalidPrice` if a price of the list cannot be stored.
    """
    price_list = current_list() if online else installed_list()
    return apply_from(price_list, models=models, overwrite=overwrite, expected=expected)


def compare_with(price_list: DataSnapshot) -> PricesReport:
    """Return how all models' prices differ from those of this list."""
    return _compared(price_list, LLMModel.objects.using(DEFAULT_DB_ALIAS))


def apply_from(
    price_list: DataSnapshot,
    *,
    models: Collection[str] | None,
    overwrite: bool | Collection[str],
    expected: str | None = None,
) -> PricesReport:
    """Apply this list; see `prices_apply`."""
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        rows = {str(row): row for row in LLMModel.objects.using(DEFAULT_DB_ALIAS).select_for_update().order_by("pk")}
        missing = sorted(set(models or ()) - rows.keys())
        if missing:
            raise UnknownModel(missing[0], sorted(rows))
        # The locked rows: a model that is being added is left to the next comparison.
        report = _compared(price_list, rows.values())
        if expected is not None and expected != report.digest:
            raise ComparisonOutdated()
        changes = [_decided(change, models, overwrite=overwrite) for change in report.changes]
        applied = [change for change in changes if change.outcome == "applied"]
        for change in applied:
            price_add(model=rows[change.name], prices=change.new, source=PriceSource.LIST, valid_from=change.valid_from)
        flagged = _flag_deprecated(rows, report, models)
        if applied or flagged:
            record(
                using=DEFAULT_DB_ALIAS,
                action="llm.prices.refresh",
                resource_type="llm_catalogue",
                resource_id="prices",
                details={"changes": [_details(change) for change in applied], **flagged},
            )
    return replace(report, changes=tuple(changes))


def _compared(price_list: DataSnapshot, models: Iterable[LLMModel]) -> PricesReport:
    changes: list[PriceChange] = []
    unchanged: list[str] = []
    unknown: list[str] = []
    deprecated: list[str] = []
    deprecation: list[str] = []
    history = _history()
    for model in sorted(models, key=lambda model: (model.provider_id, model.model_name)):
        entry = listed(price_list, model.provider_id, model.model_name)
        is_deprecated = entry is not None and entry.is_deprecated
        deprecated += [str(model)] if is_deprecated else []
        deprecation += [str(model)] if is_deprecated != model.is_deprecated else []
        if entry is None or not entry.has_prices:
            unknown.append(str(model))
            continue
        found = list(_differences(model, entry, history.get(model.pk, [])))
        changes += found
        unchanged += [] if found else [str(model)]
    return PricesReport(tuple(changes), tuple(unchanged), tuple(unknown), tuple(deprecated), tuple(deprecation))


def _flag_deprecated(
    rows: Mapping[str, LLMModel], report: PricesReport, models: Collection[str] | None
) -> dict[str, list[str]]:
    """Mark those of `models` (None: all) that the list says are being retired, and unmark the others.

    Returns details for the audit entry: {"deprecation": names of the models whose mark changed}, or {} if none did.
    """
    changed = [rows[name] for name in sorted(report.deprecation) if models is None or name in models]
    for row in changed:
        LLMModel.objects.using(DEFAULT_DB_ALIAS).filter(pk=row.pk).update(is_deprecated=not row.is_deprecated)
    return {"deprecation": [str(row) for row in changed]} if changed else {}


def _history() -> dict[int, list[LLMPrice]]:
    """Return the prices of each model by its id, earliest first."""
    found: dict[int, list[LLMPrice]] = {}
    for row in LLMPrice.objects.using(DEFAULT_DB_ALIAS).order_by("valid_from", "id"):
        found.setdefault(row.model_id, []).append(row)
    return found


def _differences(model: LLMModel, entry: ListedModel, rows: Sequence[LLMPrice]) -> Iterator[PriceChange]:
    """Yield how our prices differ from the list's: today, and on each later day on which either of the two changes."""
    now = today()
    schedule = dict(entry.schedule(now))
    for day in sorted({*schedule, *(row.valid_from for row in rows if row.valid_from > now)}):
        held = next((row for row in reversed(rows) if row.valid_from <= day), None)
        old = ModelPrices.from_document(held.prices if held else None)
        new = schedule[max(begins for begins in schedule if begins <= day)]
        if old != new:
            yield PriceChange(model.provider_id, model.model_name, day, old, new, _by_hand(held, old, new))


def _by_hand(held: LLMPrice | None, old: ModelPrices, new: ModelPrices) -> bool:
    """Return whether a person set the prices.

    Earlier releases did not record that; their prices count as set by hand if a known price of input or output differs
    from the list's.
    """
    if held is None or held.source == PriceSource.LIST:
        return False
    if held.source == PriceSource.HAND:
        return True
    return any(old.column(unit) not in (None, new.column(unit)) for unit in ("input", "output"))


def _decided(change: PriceChange, models: Collection[str] | None, *, overwrite: bool | Collection[str]) -> PriceChange:
    if models is not None and change.name not in models:
        return change
    overwrites = overwrite if isinstance(overwrite, bool) else change.name in overwrite
    if not change.by_hand or overwrites:
        return replace(change, outcome="applied")
    if models is not None:
        raise PriceByHand(change.name)
    return replace(change, outcome="kept")


def _details(change: PriceChange) -> Details:
    return {
        "provider": change.provider_id,
        "model": change.model_name,
        "valid_from": change.valid_from.isoformat(),
        "old": change.old.as_document(),
        "new": change.new.as_document(),
    }
