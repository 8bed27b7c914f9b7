"""Providers, models with prices and the pipeline as a document to move to another installation. Contains no keys."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm import catalogue
from llm.clients.registry import CLIENTS, require_callable
from llm.errors import InvalidPrice
from llm.models import LLMModel, LLMProvider, ModelClass, OnTruncation, PriceSource, StepLLMDefault
from llm.prices.by_hand import COLUMNS
from llm.prices.history import price_add, price_in_force, require_valid
from llm.types import ModelPrices, ProviderAccess


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ProviderRow(_Row):
    id: str = Field(min_length=1)
    display_name: str
    api_base_url: str | None
    is_active: bool
    # None: the document is of an earlier release, and this one does not know the provider.
    wire: str | None = None
    key_variable: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_release(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Add the wire and the key variable to a row of an earlier release, in which a provider's id implied them."""
        known = next((seed for seed in catalogue.PROVIDERS if seed.id == row.get("id")), None)
        if known is None or "wire" in row:
            return row
        return {**row, "wire": known.wire.value, "key_variable": known.key_variable}

    @property
    def access(self) -> ProviderAccess:
        return ProviderAccess(self.id, self.wire or "", self.api_base_url or None, self.key_variable)


class PricesRow(_Row):
    """The prices in effect when the document was written (`llm.types.ModelPrices`), and their source."""

    units: dict[str, Decimal]
    long_context_over: int | None
    source: PriceSource

    @property
    def prices(self) -> ModelPrices:
        return ModelPrices(self.units, self.long_context_over)

    @model_validator(mode="after")
    def _can_be_counted_with(self) -> PricesRow:
        try:
            require_valid("", self.prices)
        except InvalidPrice as error:
            raise ValueError(str(error)) from error
        return self


class ModelRow(_Row):
    provider_id: str
    model_name: str = Field(min_length=1)
    model_class: ModelClass
    cost_per_1k_input_tokens: Decimal | None = Field(ge=0)
    cost_per_1k_output_tokens: Decimal | None = Field(ge=0)
    is_active: bool
    max_output_tokens: int | None
    context_window: int | None
    # Documents from earlier releases have none of these: then only the two columns are known.
    retires_on: date | None = None
    is_deprecated: bool = False
    prices: PricesRow | None = None


class FallbackRow(_Row):
    provider: str = Field(min_length=1)
    model_class: ModelClass


class StepDefaultRow(_Row):
    step: str = Field(min_length=1)
    provider_id: str
    model_class: ModelClass
    position: int
    # Documents from earlier releases have none of these.
    review: bool = False
    on_truncation: OnTruncation = OnTruncation.RETRY
    key_at_workers: bool = False
    fallbacks: list[FallbackRow] = Field(default_factory=list)


class LLMConfiguration(_Row):
    providers: list[ProviderRow]
    models: list[ModelRow]
    steps: list[StepDefaultRow]


def configuration_read() -> LLMConfiguration:
    """Return all providers, models with the prices in effect now, and the pipeline."""
    return LLMConfiguration(
        providers=[ProviderRow(**row) for row in _values(LLMProvider, ProviderRow)],
        models=[_model_row(model) for model in LLMModel.objects.using(DEFAULT_DB_ALIAS).all()],
        steps=[StepDefaultRow(**row) for row in _values(StepLLMDefault, StepDefaultRow)],
    )


def configuration_add(configuration: LLMConfiguration) -> list[str]:
    """Insert what is missing without changing existing rows; return the names of what was added.

    A provider without a client in this release is skipped, and so are models and steps whose provider is missing.
    Raises what `require_callable` raises for a new provider, such as for a base URL that this installation does not
    allow, because the document comes from outside. Call this in a transaction on the control database, and record the
    change.
    """
    added = []
    present = set(LLMProvider.objects.using(DEFAULT_DB_ALIAS).values_list("pk", flat=True))
    for provider in (provider for provider in configuration.providers if provider.wire in CLIENTS):
        if provider.id not in present:
            require_callable(provider.access)
        _provider, created = LLMProvider.objects.using(DEFAULT_DB_ALIAS).get_or_create(
            pk=provider.id, defaults=provider.model_dump(exclude={"id"})
        )
        added += [provider.id] if created else []
    known = set(LLMProvider.objects.using(DEFAULT_DB_ALIAS).values_list("pk", flat=True))
    for model in (model for model in configuration.models if model.provider_id in known):
        added += [f"{model.provider_id}/{model.model_name}"] if _add_model(model) else []
    for step in (step for step in configuration.steps if step.provider_id in known):
        _step, created = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS).get_or_create(
            pk=step.step, defaults=step.model_dump(exclude={"step"})
        )
        added += [step.step] if created else []
    return added


def _model_row(model: LLMModel) -> ModelRow:
    row = price_in_force(model.pk)
    prices = ModelPrices.from_document(row.prices if row else None)
    return ModelRow(
        **{name: getattr(model, name) for name in ModelRow.model_fields if name != "prices"},
        prices=PricesRow(
            units=dict(prices.units), long_context_over=prices.long_context_over, source=PriceSource(row.source)
        )
        if row
        else None,
    )


def _add_model(row: ModelRow) -> bool:
    """Insert the model with its prices; return False if it already exists."""
    excluded = {"provider_id", "model_name", "prices"}
    if row.prices is not None:
        excluded |= set(COLUMNS)
    model, created = LLMModel.objects.using(DEFAULT_DB_ALIAS).get_or_create(
        provider_id=row.provider_id, model_name=row.model_name, defaults=row.model_dump(exclude=excluded)
    )
    if created and row.prices is not None:
        price_add(model=model, prices=row.prices.prices, source=row.prices.source)
    return created


def _values(model: Any, row: type[_Row]) -> Any:
    return model.objects.using(DEFAULT_DB_ALIAS).values(*row.model_fields)
