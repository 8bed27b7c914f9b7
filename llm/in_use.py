"""Refuse to delete or rename what unfinished runs use, or to delete what the pipeline uses.

Runs are in tenants' databases and belong to an app above this one, which registers how to find them.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from llm.errors import LLMError, LLMPermanentError
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from llm.selectors import resolve_model
from llm.types import Fallback


class ProviderInPipeline(LLMPermanentError):
    code = "llm_provider_in_pipeline"

    def __init__(self, provider_id: str, steps: list[str]) -> None:
        super().__init__(
            _("The pipeline uses the LLM provider %(provider)s for %(steps)s.")
            % {"provider": provider_id, "steps": ", ".join(steps)},
            hint=_("First route these steps to another provider, and remove this one from their fallbacks."),
        )


class ProviderWithModels(LLMPermanentError):
    code = "llm_provider_has_models"

    def __init__(self, provider_id: str, models: list[str]) -> None:
        super().__init__(
            _("The LLM provider %(provider)s still has models: %(models)s.")
            % {"provider": provider_id, "models": ", ".join(models)},
            hint=_("Delete them first. To keep new runs from using the provider, deactivate it."),
        )


class ModelInPipeline(LLMPermanentError):
    code = "llm_model_in_pipeline"

    def __init__(self, provider_id: str, model: str, steps: list[str]) -> None:
        super().__init__(
            _("New runs may use the model %(model)s of %(provider)s for %(steps)s.")
            % {"provider": provider_id, "model": model, "steps": ", ".join(steps)},
            hint=_(
                "Change the routes and fallbacks of these steps or, if another model of its class is active, deactivate"
                " this one. Then delete it."
            ),
        )


class ModelInRuns(LLMPermanentError):
    code = "llm_model_in_runs"

    def __init__(self, provider_id: str, model: str, *, tenant_id: str, run_id: str) -> None:
        super().__init__(
            _("An unfinished run uses the model %(model)s of %(provider)s: run %(run)s of tenant %(tenant)s.")
            % {"provider": provider_id, "model": model, "run": run_id, "tenant": tenant_id},
            hint=_("Wait until such runs end, or cancel them. To keep new runs from using the model, deactivate it."),
        )


@dataclass(frozen=True)
class Use:
    """An uncompleted step, in a run that has not ended, that uses a model or may fall back to it."""

    tenant_id: str
    run_id: str
    step: str


class FindUses(Protocol):
    def __call__(self, *, provider_id: str, model_name: str) -> Iterator[Use]:
        """Yield at least one use for each active or suspended tenant that uses the model.

        Raises `SeoGenError` if a tenant cannot be read.
        """
        ...


_registered: list[str] = []


def register(dotted_path: str) -> None:
    """Register a `FindUses`; it is imported when it is first needed."""
    _registered.append(dotted_path)


def require_provider_unused(provider: LLMProvider) -> None:
    """Raise if the provider is in use.

    Raises `ProviderInPipeline` if a step uses it, even as a fallback, or `ProviderWithModels` if it has models, since
    runs use a provider through its models.
    """
    if steps := _steps_of(provider):
        raise ProviderInPipeline(provider.pk, [row.step for row in steps])
    names = LLMModel.objects.using(DEFAULT_DB_ALIAS).filter(provider=provider).order_by("pk")
    if models := list(names.values_list("model_name", flat=True)):
        raise ProviderWithModels(provider.pk, models)


def require_model_unused(model: LLMModel) -> None:
    """Raise if the model is in use.

    Raises `ModelInPipeline` if a step's route or a fallback leads to it, or what `require_no_runs` raises.
    """
    steps = [row.step for row in _steps_of(model.provider) if model.model_name in _models_of(row, model.provider_id)]
    if steps:
        raise ModelInPipeline(model.provider_id, model.model_name, steps)
    require_no_runs(model)


def require_no_runs(model: LLMModel) -> None:
    """Raise `ModelInRuns` if an unfinished run of an active or suspended tenant may use the model.

    Raises `SeoGenError` if a tenant cannot be read.
    """
    for dotted_path in _registered:
        find: FindUses = import_string(dotted_path)
        for use in find(provider_id=model.provider_id, model_name=model.model_name):
            raise ModelInRuns(model.provider_id, model.model_name, tenant_id=use.tenant_id, run_id=use.run_id)


def _steps_of(provider: LLMProvider) -> list[StepLLMDefault]:
    """Return the steps that use the provider, even as a fallback."""
    steps = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS)
    used = steps.filter(Q(provider=provider) | Q(fallbacks__contains=[{"provider": provider.pk}]))
    return list(used.order_by("position", "step"))


def _models_of(row: StepLLMDefault, provider_id: str) -> set[str]:
    """Return the names of the provider's models that new runs may use for the step, including fallbacks."""
    routes = [Fallback(row.provider_id, row.model_class), *map(Fallback.from_document, row.fallbacks)]
    found = set()
    for route in routes:
        if route.provider_id == provider_id:
            with suppress(LLMError):  # the route leads to no model
                found.add(resolve_model(provider_id, route.model_class).model_name)
    return found
