"""Write the catalogue. The caller records it in the control audit log, in the same transaction on `default`."""

import os

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from genai_prices.data_snapshot import DataSnapshot

from llm import catalogue
from llm.catalogue import SeedModel
from llm.errors import UnknownStep
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from llm.prices import FREE, ListedModel, current_list, installed_list, listed
from llm.selectors import require_routable, resolve_model
from llm.types import PriceChange, Prices, PricesReport, SeedReport, StepDefaultChange

# Arbitrary, but different from our other advisory locks.
_SEED_LOCK = 0x6C6C6D63


def catalogue_seed() -> SeedReport:
    """Insert what is missing from `llm.catalogue`. Safe to repeat; never changes existing rows.

    This respects staff's decisions. A model whose class already has one is added inactive, so that an upgrade does not
    move runs to it. The pipeline is only written if there is none, so that a removed step does not come back.
    """
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        # If two installations start at once, the second waits and finds nothing missing.
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEED_LOCK])
        return SeedReport(_seed_providers(), _seed_models(), _seed_pipeline())


def step_default_set(*, step: str, provider_id: str, model_class: str | None = None) -> StepDefaultChange:
    """Route a step to a provider; it keeps its class if `model_class` is None. Existing runs keep their pinned models.

    Raises `UnknownStep`, or what `require_routable` and `resolve_model` raise if the provider cannot serve the step.
    """
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        steps = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS)
        row = steps.select_for_update().filter(pk=step).first()
        if row is None:
            raise UnknownStep(step, list(steps.order_by("position", "step").values_list("step", flat=True)))
        require_routable(provider_id)
        model = resolve_model(provider_id, model_class or row.model_class)
        change = StepDefaultChange(
            step=step,
            old_provider_id=row.provider_id,
            old_model_class=row.model_class,
            provider_id=provider_id,
            model_class=model_class or row.model_class,
            model_name=model.model_name,
        )
        row.provider_id, row.model_class = change.provider_id, change.model_class
        row.save(using=DEFAULT_DB_ALIAS, update_fields=["provider", "model_class"])
    return change


def prices_refresh(*, online: bool = False, dry_run: bool = False) -> PricesReport:
    """Set the prices of all models in the price list, hand-edited ones too. Recorded costs do not change.

    `online` fetches today's list instead of the installed one; `dry_run` changes nothing. Raises `PricesUnavailable`.
    """
    return _refresh_from(current_list() if online else installed_list(), dry_run=dry_run)


def _refresh_from(price_list: DataSnapshot, *, dry_run: bool) -> PricesReport:
    changes: list[PriceChange] = []
    unchanged: list[str] = []
    unknown: list[str] = []
    with transaction.atomic(using=DEFAULT_DB_ALIAS):
        models = LLMModel.objects.using(DEFAULT_DB_ALIAS)
        for model in models.select_for_update().order_by("provider_id", "model_name"):
            new = _list_price(price_list, model.provider_id, model.model_name)
            old = Prices(model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens)
            if new is None:
                unknown.append(str(model))
            elif new.prices == old:
                unchanged.append(str(model))
            else:
                changes.append(PriceChange(model.provider_id, model.model_name, old, new.prices))
                if not dry_run:
                    models.filter(pk=model.pk).update(**_columns(new.prices))
    return PricesReport(tuple(changes), tuple(unchanged), tuple(unknown))


def _list_price(price_list: DataSnapshot, provider_id: str, model_name: str) -> ListedModel | None:
    """Like `listed`, but None if a price is missing, because it would overwrite a known price."""
    entry = listed(price_list, provider_id, model_name)
    return entry if entry and None not in (entry.prices.input, entry.prices.output) else None


def _columns(prices: Prices) -> dict[str, object]:
    return {"cost_per_1k_input_tokens": prices.input, "cost_per_1k_output_tokens": prices.output}


def _seed_providers() -> tuple[str, ...]:
    providers = LLMProvider.objects.using(DEFAULT_DB_ALIAS)
    known = set(providers.values_list("pk", flat=True))
    missing = [provider_id for provider_id in catalogue.PROVIDERS if provider_id not in known]
    for provider_id in missing:
        providers.create(id=provider_id, display_name=catalogue.PROVIDERS[provider_id], is_active=not known)
    return tuple(missing)


def _seed_models() -> tuple[str, ...]:
    models = LLMModel.objects.using(DEFAULT_DB_ALIAS)
    known = set(models.values_list("provider_id", "model_name"))
    filled = set(models.values_list("provider_id", "model_class"))
    missing = [seed for seed in catalogue.MODELS if (seed.provider_id, seed.model_name) not in known]
    # Not `bulk_create`: the newest model is the one with the highest id, so the order of insertion matters.
    return tuple(
        str(models.create(**_model_values(seed), is_active=(seed.provider_id, seed.model_class) not in filled))
        for seed in missing
    )


def _model_values(seed: SeedModel) -> dict[str, object]:
    entry = listed(installed_list(), seed.provider_id, seed.model_name)
    unlisted = FREE if seed.provider_id == "local" else Prices(None, None)
    return {
        "provider_id": seed.provider_id,
        "model_name": seed.model_name,
        "model_class": seed.model_class,
        "max_output_tokens": seed.max_output_tokens,
        "context_window": seed.context_window or (entry.context_window if entry else None),
        **_columns(entry.prices if entry else unlisted),
    }


def _seed_pipeline() -> tuple[str, ...]:
    steps = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS)
    if steps.exists():
        return ()
    provider_id = _first_usable_provider()
    for seed in catalogue.PIPELINE:
        steps.create(step=seed.step, position=seed.position, model_class=seed.model_class, provider_id=provider_id)
    return tuple(seed.step for seed in catalogue.PIPELINE)


def _first_usable_provider() -> str:
    """Return the local server if there is one, as in the embedded stack; else the first with a key; else Claude."""
    if settings.LOCAL_LLM_URL:
        return "local"
    return next((provider for provider, variable in KEY_VARIABLES.items() if os.environ.get(variable)), "claude")
