"""Write the catalogue. The caller records each change in the control log, in the same transaction on `default`."""

import os
from collections.abc import Sequence
from dataclasses import asdict

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from llm import catalogue
from llm.catalogue import SeedModel
from llm.errors import UnknownStep
from llm.models import LLMModel, LLMProvider, PriceSource, StepLLMDefault
from llm.prices.history import price_add, today
from llm.prices.price_list import FREE, ListedModel, installed_list, listed
from llm.selectors import require_fallbacks, require_route, without_key
from llm.types import Fallback, SeedReport, StepDefaultChange

# Arbitrary, but different from our other advisory locks.
_SEED_LOCK = 0x6C6C6D63


def catalogue_seed() -> SeedReport:
    """Insert the rows of `llm.catalogue` that the database lacks; return their names. Existing rows never change.

    Decisions of staff are respected. A new provider is added inactive if there already are others, and a new model if
    its provider already has one of the same class, so that an upgrade does not move runs to it. The pipeline is only
    written if it has no steps at all, so that a removed step does not come back.
    """
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        # If two processes do this at the same time, the second waits and finds nothing missing.
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEED_LOCK])
        return SeedReport(_seed_providers(), _seed_models(), _seed_pipeline())


def step_default_set(
    *,
    step: str,
    provider_id: str,
    model_class: str | None = None,
    force: bool = False,
    fallbacks: Sequence[str] | None = None,
) -> StepDefaultChange:
    """Route a step to a provider, and return the change. Existing runs keep their models.

    If `model_class` is None, the step keeps its class. `fallbacks` are "provider:class", or "provider" for the step's
    class, in order; None: the step keeps its own. Raises `UnknownStep`, or what `require_route` raises if the route or
    one of `fallbacks` cannot run. With `force`, keys that are missing here, of the provider or of a fallback, are
    assumed to be at the workers.
    """
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        steps = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS)
        row = steps.select_for_update().filter(pk=step).first()
        if row is None:
            raise UnknownStep(step, list(steps.order_by("position", "step").values_list("step", flat=True)))
        model = require_route(provider_id, model_class or row.model_class, key_at_workers=force)
        old_fallbacks = tuple(map(Fallback.from_document, row.fallbacks))
        named = [Fallback.parse(text, model_class=model_class or row.model_class) for text in fallbacks or ()]
        require_fallbacks(named, key_at_workers=force)
        new_fallbacks = old_fallbacks if fallbacks is None else tuple(dict.fromkeys(named))
        missing = without_key([provider_id, *(fallback.provider_id for fallback in new_fallbacks)])
        # Only a fallback that the step keeps can lack its key without `force`; someone may have accepted that earlier.
        keys_at_workers = tuple(missing) if force or row.key_at_workers else ()
        change = StepDefaultChange(
            step=step,
            old_provider_id=row.provider_id,
            old_model_class=row.model_class,
            provider_id=provider_id,
            model_class=model_class or row.model_class,
            model_name=model.model_name,
            old_key_at_workers=row.key_at_workers,
            keys_at_workers=keys_at_workers,
            old_fallbacks=old_fallbacks,
            fallbacks=new_fallbacks,
        )
        row.provider_id, row.model_class = change.provider_id, change.model_class
        row.key_at_workers = change.key_at_workers
        row.fallbacks = [fallback.as_document() for fallback in change.fallbacks]
        row.save(using=DEFAULT_DB_ALIAS, update_fields=["provider", "model_class", "key_at_workers", "fallbacks"])
    return change


def _seed_providers() -> tuple[str, ...]:
    providers = LLMProvider.objects.using(DEFAULT_DB_ALIAS)
    known = set(providers.values_list("pk", flat=True))
    missing = [seed for seed in catalogue.PROVIDERS if seed.id not in known]
    for seed in missing:
        providers.create(**asdict(seed), is_active=not known)
    return tuple(seed.id for seed in missing)


def _seed_models() -> tuple[str, ...]:
    models = LLMModel.objects.using(DEFAULT_DB_ALIAS)
    known = set(models.values_list("provider_id", "model_name"))
    filled = set(models.values_list("provider_id", "model_class"))
    missing = [seed for seed in catalogue.MODELS if (seed.provider_id, seed.model_name) not in known]
    # Not `bulk_create`: the newest model is the one with the highest id, so the order of insertion matters.
    return tuple(_seed_model(seed, is_active=(seed.provider_id, seed.model_class) not in filled) for seed in missing)


def _seed_model(seed: SeedModel, *, is_active: bool) -> str:
    """Insert the model with the prices of the installed list, including those that begin later; return its name.

    A model of the local server that is not in the list is free.
    """
    entry = listed(installed_list(), seed.provider_id, seed.model_name)
    if entry is None and seed.provider_id == "local":
        entry = ListedModel(FREE)
    model = LLMModel.objects.using(DEFAULT_DB_ALIAS).create(
        provider_id=seed.provider_id,
        model_name=seed.model_name,
        model_class=seed.model_class,
        max_output_tokens=seed.max_output_tokens,
        context_window=seed.context_window or (entry.context_window if entry else None),
        is_active=is_active,
        is_deprecated=bool(entry and entry.is_deprecated),
    )
    if entry is not None and entry.has_prices:
        for day, prices in entry.schedule(today()):
            price_add(model=model, prices=prices, source=PriceSource.LIST, valid_from=day)
    return str(model)


def _seed_pipeline() -> tuple[str, ...]:
    steps = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS)
    if steps.exists():
        return ()
    provider_id = _first_usable_provider()
    for seed in catalogue.PIPELINE:
        steps.create(step=seed.step, position=seed.position, model_class=seed.model_class, provider_id=provider_id)
    return tuple(seed.step for seed in catalogue.PIPELINE)


def _first_usable_provider() -> str:
    """Return the provider of the local server if there is one; else the first provider with a key; else Claude."""
    if settings.LOCAL_LLM_URL:
        return "local"
    return next((seed.id for seed in catalogue.PROVIDERS if os.environ.get(seed.key_variable)), "claude")
