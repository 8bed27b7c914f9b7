"""Operators' changes to the LLM catalogue, each in one transaction with its entries in the control log.

Also finds the steps whose models were, are being or will be retired.
"""

from collections.abc import Sequence
from contextlib import suppress

from django.db import transaction

from audit.log.entries import Details, record
from config.base.databases import CONTROL
from llm.errors import LLMError
from llm.models import LLMModel
from llm.prices.retirement import retirement_text
from llm.selectors import pipeline, resolve_model
from llm.services import catalogue_seed, step_default_set
from llm.types import Fallback, SeedReport, StepDefaultChange


def catalogue_fill() -> SeedReport:
    """Insert the missing rows of `llm.catalogue`, with an audit entry if there were any; return their names."""
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


def step_route(
    *,
    step: str | None,
    provider_id: str,
    model_class: str | None = None,
    force: bool = False,
    fallbacks: Sequence[str] | None = None,
) -> list[StepDefaultChange]:
    """Route a step, or all steps if `step` is None, to a provider, all or none; return each step's change.

    If `model_class` is None, each step keeps its class; if `fallbacks` ("provider:class" or "provider", in order) is
    None, it keeps its fallbacks. Existing runs keep the models they pinned. Raises an `LLMPermanentError` if the route
    or one of `fallbacks` cannot run: a step, the provider, the class or an active model of it is missing, or the
    provider is inactive or cannot be called. With `force`, the workers are assumed to have keys that are missing here.
    """
    with transaction.atomic(using=CONTROL):
        steps = [step] if step is not None else [row.step for row in pipeline()]
        changes = [
            step_default_set(
                step=name, provider_id=provider_id, model_class=model_class, force=force, fallbacks=fallbacks
            )
            for name in steps
        ]
        for change in changes:
            if change.changed:
                _record_routing(change)
    return changes


def retiring_steps() -> list[tuple[str, str]]:
    """Return (step, sentence) for each model of a step or its fallbacks that was, is being or will be retired."""
    found = []
    for step in pipeline():
        routes = [Fallback(step.provider_id, step.model_class), *step.fallbacks]
        texts = dict.fromkeys(_retirement_of(route) for route in routes)
        found += [(step.step, text) for text in texts if text]
    return found


def _retirement_of(route: Fallback) -> str | None:
    """Return a sentence if the route's model was, is being or will be retired; otherwise None."""
    with suppress(LLMError):  # a route without a model is a different problem
        model = resolve_model(route.provider_id, route.model_class)
        row = LLMModel.objects.using(CONTROL).get(provider_id=model.provider_id, model_name=model.model_name)
        return retirement_text(row)
    return None


def _record_routing(change: StepDefaultChange) -> None:
    record(
        using=CONTROL,
        action="step_default.change",
        resource_type="step_default",
        resource_id=change.step,
        details={
            "from": _route(
                change.old_provider_id,
                change.old_model_class,
                key_at_workers=change.old_key_at_workers,
                fallbacks=change.old_fallbacks,
            ),
            "to": _route(
                change.provider_id,
                change.model_class,
                key_at_workers=change.key_at_workers,
                fallbacks=change.fallbacks,
            ),
        },
    )


def _route(provider_id: str, model_class: str, *, key_at_workers: bool, fallbacks: Sequence[Fallback]) -> Details:
    route: Details = {"provider": provider_id, "model_class": model_class}
    if key_at_workers:
        route |= {"key_at_workers": True}
    return route | ({"fallbacks": [str(fallback) for fallback in fallbacks]} if fallbacks else {})
