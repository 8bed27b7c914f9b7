"""Providers, models with prices and the pipeline as a document to move to another installation. Contains no keys."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from pydantic import BaseModel, ConfigDict, Field

from llm.clients.registry import PROVIDER_IDS, require_callable
from llm.models import LLMModel, LLMProvider, ModelClass, StepLLMDefault


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ProviderRow(_Row):
    id: str = Field(min_length=1)
    display_name: str
    api_base_url: str | None
    is_active: bool


class ModelRow(_Row):
    provider_id: str
    model_name: str = Field(min_length=1)
    model_class: ModelClass
    cost_per_1k_input_tokens: Decimal | None = Field(ge=0)
    cost_per_1k_output_tokens: Decimal | None = Field(ge=0)
    is_active: bool
    max_output_tokens: int | None
    context_window: int | None


class StepDefaultRow(_Row):
    step: str = Field(min_length=1)
    provider_id: str
    model_class: ModelClass
    position: int


class LLMConfiguration(_Row):
    providers: list[ProviderRow]
    models: list[ModelRow]
    steps: list[StepDefaultRow]


def configuration_read() -> LLMConfiguration:
    """Return the whole configuration."""
    return LLMConfiguration(
        providers=[ProviderRow(**row) for row in _values(LLMProvider, ProviderRow)],
        models=[ModelRow(**row) for row in _values(LLMModel, ModelRow)],
        steps=[StepDefaultRow(**row) for row in _values(StepLLMDefault, StepDefaultRow)],
    )


def configuration_add(configuration: LLMConfiguration) -> list[str]:
    """Insert what is missing without changing existing rows; return the names of what was added.

    A provider without a client in this release is skipped, with its models and steps. A base URL that this installation
    does not allow is refused (see `require_callable`), because the document comes from outside. Call it in a
    transaction on the control database, and record the change.
    """
    added = []
    present = set(LLMProvider.objects.using(DEFAULT_DB_ALIAS).values_list("pk", flat=True))
    for provider in (provider for provider in configuration.providers if provider.id in PROVIDER_IDS):
        if provider.id not in present:
            require_callable(provider.id, provider.api_base_url)
        _provider, created = LLMProvider.objects.using(DEFAULT_DB_ALIAS).get_or_create(
            pk=provider.id, defaults=provider.model_dump(exclude={"id"})
        )
        added += [provider.id] if created else []
    known = set(LLMProvider.objects.using(DEFAULT_DB_ALIAS).values_list("pk", flat=True))
    for model in (model for model in configuration.models if model.provider_id in known):
        _model, created = LLMModel.objects.using(DEFAULT_DB_ALIAS).get_or_create(
            provider_id=model.provider_id,
            model_name=model.model_name,
            defaults=model.model_dump(exclude={"provider_id", "model_name"}),
        )
        added += [f"{model.provider_id}/{model.model_name}"] if created else []
    for step in (step for step in configuration.steps if step.provider_id in known):
        _step, created = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS).get_or_create(
            pk=step.step, defaults=step.model_dump(exclude={"step"})
        )
        added += [step.step] if created else []
    return added


def _values(model: Any, row: type[_Row]) -> Any:
    return model.objects.using(DEFAULT_DB_ALIAS).values(*row.model_fields)
