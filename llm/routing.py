"""Operators' changes to the LLM catalogue, each in one transaction with its entry in the control audit log."""

from django.db import transaction

from audit.log.entries import Details, record
from config.base.databases import CONTROL
from llm.errors import InvalidKey, MissingKey
from llm.selectors import pipeline, require_key
from llm.services import catalogue_seed, prices_refresh, step_default_set
from llm.types import PriceChange, PricesReport, SeedReport, StepDefaultChange


def catalogue_fill() -> SeedReport:
    """Insert what the catalogue lacks; record an entry only if something was missing."""
    with transaction.atomic(using=CONTROL):
        report = catalogue_seed()
        inserted = {"providers": report.providers, "models": report.models, "steps": report.steps}
        if any(inserted.values()):
            record(
                using=CONTROL,
                action="llm.catalogue.seed",
                resource_type="llm_catalogue",
                resource_id="catalogue",
                details={kind: list(names) for kind, names in inserted.items()},
            )
    return report


def step_route(*, step: str | None, provider_id: str, model_class: str | None = None) -> list[StepDefaultChange]:
    """Route a step, or all steps if `step` is None, to a provider. Either all of them change or none.

    If `model_class` is None, each step keeps its own. Existing runs keep the models they pinned. Raises an
    `LLMPermanentError` if a step, the provider or an active model of the class is missing, or the provider cannot be
    called at all. A missing key does not raise, because the workers may have it (see `missing_key`).
    """
    with transaction.atomic(using=CONTROL):
        steps = [step] if step is not None else [row.step for row in pipeline()]
        changes = [step_default_set(step=name, provider_id=provider_id, model_class=model_class) for name in steps]
        for change in changes:
            if change.changed:
                _record_routing(change)
    return changes


def missing_key(provider_id: str) -> str | None:
    """Return a warning if this process's environment has no valid key for the provider, else None."""
    try:
        require_key(provider_id)
    except (MissingKey, InvalidKey) as error:
        return str(error)
    return None


def model_prices_refresh(*, online: bool = False, dry_run: bool = False) -> PricesReport:
    """Update the prices of all listed models; see `llm.services.prices_refresh`."""
    with transaction.atomic(using=CONTROL):
        report = prices_refresh(online=online, dry_run=dry_run)
        if report.changes and not dry_run:
            record(
                using=CONTROL,
                action="llm.prices.refresh",
                resource_type="llm_catalogue",
                resource_id="prices",
                details={"changes": [_price_details(change) for change in report.changes]},
            )
    return report


def _record_routing(change: StepDefaultChange) -> None:
    record(
        using=CONTROL,
        action="step_default.change",
        resource_type="step_default",
        resource_id=change.step,
        details={
            "from": {"provider": change.old_provider_id, "model_class": change.old_model_class},
            "to": {"provider": change.provider_id, "model_class": change.model_class},
        },
    )


def _price_details(change: PriceChange) -> Details:
    """Write prices as text, because JSON numbers are not decimal."""
    return {
        "provider": change.provider_id,
        "model": change.model_name,
        "old": [None if price is None else str(price) for price in (change.old.input, change.old.output)],
        "new": [None if price is None else str(price) for price in (change.new.input, change.new.output)],
    }
