"""Read the catalogue: the pipeline, and the model that a step uses."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import LiteralString

from django.db import DEFAULT_DB_ALIAS
from django.db.models import F, QuerySet

from config.base.rows import fetch_one
from llm.clients.registry import client_for, require_callable
from llm.errors import (
    InactiveProvider,
    InvalidModelClass,
    LLMError,
    MissingKey,
    NoActiveModel,
    NoModels,
    UnknownProvider,
)
from llm.models import LLMModel, LLMProvider, ModelClass, StepLLMDefault
from llm.prices.history import prices_in_force, today
from llm.types import Fallback, ModelPrices, PipelineStep, ProviderAccess, ResolvedModel

# For models whose row has no limit; every current model supports it.
DEFAULT_MAX_OUTPUT_TOKENS = 8_000

# In the order of the fields of `ResolvedModel`.
FIND_MODEL: LiteralString = """
SELECT provider.id, provider.wire, nullif(provider.api_base_url, ''), provider.key_variable,
       model.model_name, model.model_class, price.prices, model.max_output_tokens, model.context_window,
       model.is_active AND provider.is_active
           AND (model.retires_on IS NULL OR model.retires_on > (statement_timestamp() AT TIME ZONE 'UTC')::date)
  FROM public.llm_models AS model JOIN public.llm_providers AS provider ON provider.id = model.provider_id
  LEFT JOIN LATERAL (
    SELECT prices FROM public.llm_prices
     WHERE model_id = model.id AND valid_from <= (statement_timestamp() AT TIME ZONE 'UTC')::date
     ORDER BY valid_from DESC, id DESC LIMIT 1
  ) AS price ON true
 WHERE provider.id = %s AND model.model_name = %s
"""


def pipeline() -> list[PipelineStep]:
    """Return the steps in order, each with its default routing."""
    rows = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS).order_by("position", "step")
    return [
        PipelineStep(
            row.step,
            row.position,
            row.provider_id,
            row.model_class,
            row.review,
            row.on_truncation,
            row.key_at_workers,
            tuple(map(Fallback.from_document, row.fallbacks)),
        )
        for row in rows
    ]


def resolve_model(provider_id: str, model_class: str) -> ResolvedModel:
    """Return the provider's newest active model of a class.

    A model whose retirement date has come is returned only if there is no other. If the provider has no model of the
    class, active or not, its newest active model of any class is returned: such a provider does not distinguish
    classes, like the local server with its one model. Raises `UnknownProvider`, `InactiveProvider`, `InvalidModelClass`
    or `NoActiveModel`.
    """
    provider = _provider(provider_id)
    return _resolved(provider, newest_model(provider, list(_models(provider_id)), model_class))


def newest_model(provider: LLMProvider, models: Sequence[LLMModel], model_class: str) -> LLMModel:
    """Return the model that `resolve_model` chooses; `models` are all of the provider's models.

    A model whose retirement date has come is chosen only if there is no other.

    Raises `InactiveProvider`, `InvalidModelClass` or `NoActiveModel`.
    """
    if not provider.is_active:
        raise InactiveProvider(provider.pk)
    if model_class not in ModelClass.values:
        raise InvalidModelClass(model_class, ModelClass.values)
    of_class = [model for model in models if model.model_class == model_class]
    active = [model for model in of_class or models if model.is_active]
    if not active:
        raise NoActiveModel(provider.pk, model_class=model_class)
    return max(active, key=lambda model: (model.retires_on is None or model.retires_on > today(), model.pk))


def resolve_named_model(provider_id: str, model_name: str) -> ResolvedModel:
    """Return an active model by name. A run that pinned a model uses `find_model`, so that the run can finish.

    Raises `UnknownProvider`, `InactiveProvider` or `NoActiveModel`.
    """
    provider = _active_provider(provider_id)
    model = _models(provider_id).filter(model_name=model_name, is_active=True).first()
    if model is None:
        raise NoActiveModel(provider_id, model=model_name)
    return _resolved(provider, model)


def cheapest_model(provider_id: str) -> ResolvedModel:
    """Return the provider's cheapest active model, even if the provider is not active. Models without prices come last.

    Raises `UnknownProvider` or `NoModels`.
    """
    provider = _provider(provider_id)
    price = F("cost_per_1k_input_tokens") + F("cost_per_1k_output_tokens")
    model = _models(provider_id).filter(is_active=True).order_by(price.asc(nulls_last=True), "pk").first()
    if model is None:
        raise NoModels(provider_id)
    return _resolved(provider, model)


def active_providers() -> list[str]:
    """Return the ids of the active providers, in alphabetical order."""
    active = LLMProvider.objects.using(DEFAULT_DB_ALIAS).filter(is_active=True)
    return list(active.order_by("pk").values_list("pk", flat=True))


def find_model(provider_id: str, model_name: str) -> ResolvedModel | None:
    """Return a model by name, active or not, with the prices in effect now; None if the catalogue does not have it."""
    found = fetch_one(DEFAULT_DB_ALIAS, FIND_MODEL, [provider_id, model_name])
    if found is None:
        return None
    values = dict(zip((field.name for field in fields(ResolvedModel)), found, strict=True))
    values["prices"] = ModelPrices.from_document(values["prices"] and json.loads(values["prices"]))
    values["max_output_tokens"] = values["max_output_tokens"] or DEFAULT_MAX_OUTPUT_TOKENS
    return ResolvedModel(**values)


def require_key(provider_id: str) -> None:
    """Raise if this process cannot call the provider, for example `MissingKey`, which names the variable."""
    client_for(access_to(_provider(provider_id)))


def without_key(provider_ids: Iterable[str]) -> list[str]:
    """Return the providers whose key this process lacks, each once; a provider with any other fault is left out."""
    found = []
    for provider_id in dict.fromkeys(provider_ids):
        try:
            require_key(provider_id)
        except MissingKey:
            found.append(provider_id)
        except LLMError:
            pass
    return found


def require_routable(provider_id: str) -> None:
    """Raise if the provider could not be called even with its key.

    Raises `UnknownProvider`, or what `require_callable` raises.
    """
    require_callable(access_to(_provider(provider_id)))


def require_route(provider_id: str, model_class: str, *, key_at_workers: bool = False) -> ResolvedModel:
    """Return the model that a route leads to; raise if it cannot run.

    Raises what `require_routable`, `resolve_model` and `require_key` raise. With `key_at_workers`, the key may be
    missing here, but not malformed.
    """
    require_routable(provider_id)
    model = resolve_model(provider_id, model_class)
    with suppress(*((MissingKey,) if key_at_workers else ())):
        require_key(provider_id)
    return model


def require_fallbacks(fallbacks: Iterable[Fallback], *, key_at_workers: bool = False) -> None:
    """Raise what `require_route` raises if a fallback cannot run."""
    for fallback in fallbacks:
        require_route(fallback.provider_id, fallback.model_class, key_at_workers=key_at_workers)


def access_to(provider: LLMProvider) -> ProviderAccess:
    return ProviderAccess(provider.pk, provider.wire, provider.api_base_url or None, provider.key_variable)


def _provider(provider_id: str) -> LLMProvider:
    providers = LLMProvider.objects.using(DEFAULT_DB_ALIAS)
    provider = providers.filter(pk=provider_id).first()
    if provider is None:
        raise UnknownProvider(provider_id, list(providers.order_by("pk").values_list("pk", flat=True)))
    return provider


def _active_provider(provider_id: str) -> LLMProvider:
    provider = _provider(provider_id)
    if not provider.is_active:
        raise InactiveProvider(provider_id)
    return provider


def _models(provider_id: str) -> QuerySet[LLMModel]:
    return LLMModel.objects.using(DEFAULT_DB_ALIAS).filter(provider_id=provider_id)


def _resolved(provider: LLMProvider, model: LLMModel) -> ResolvedModel:
    return ResolvedModel(
        provider_id=provider.pk,
        wire=provider.wire,
        api_base_url=provider.api_base_url or None,
        key_variable=provider.key_variable,
        model_name=model.model_name,
        model_class=model.model_class,
        prices=prices_in_force(model.pk),
        max_output_tokens=model.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        context_window=model.context_window,
    )
