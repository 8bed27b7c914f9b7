"""Read the catalogue: the pipeline, and the model that a step uses."""

from decimal import Decimal

from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet

from llm.clients.registry import client_for, require_callable
from llm.errors import InactiveProvider, InvalidModelClass, NoActiveModel, UnknownProvider
from llm.models import LLMModel, LLMProvider, ModelClass, StepLLMDefault
from llm.types import PipelineStep, ResolvedModel

# For models whose row has no limit; every current model supports it.
DEFAULT_MAX_OUTPUT_TOKENS = 8_000


def pipeline() -> list[PipelineStep]:
    """Return the steps in order, each with its default routing."""
    rows = StepLLMDefault.objects.using(DEFAULT_DB_ALIAS).order_by("position", "step")
    return [PipelineStep(row.step, row.position, row.provider_id, row.model_class) for row in rows]


def resolve_model(provider_id: str, model_class: str) -> ResolvedModel:
    """Return the provider's newest active model of a class.

    If the provider has no model of the class, active or not, its newest active model of any class is returned: it does
    not distinguish classes, like the local server, which has one model. Raises `UnknownProvider`, `InactiveProvider`,
    `InvalidModelClass` or `NoActiveModel`.
    """
    provider = _active_provider(provider_id)
    if model_class not in ModelClass.values:
        raise InvalidModelClass(model_class, ModelClass.values)
    models = _models(provider_id)
    of_class = models.filter(model_class=model_class)
    model = (of_class if of_class.exists() else models).filter(is_active=True).order_by("-id").first()
    if model is None:
        raise NoActiveModel(provider_id, model_class)
    return _resolved(provider, model)


def resolve_named_model(provider_id: str, model_name: str, *, active_only: bool = True) -> ResolvedModel:
    """Return a model by name. A run that pinned it passes `active_only=False`, so that the run can finish.

    Raises `UnknownProvider`, `InactiveProvider` or `NoActiveModel`.
    """
    provider = _active_provider(provider_id) if active_only else _provider(provider_id)
    models = _models(provider_id).filter(model_name=model_name)
    model = (models.filter(is_active=True) if active_only else models).first()
    if model is None:
        raise NoActiveModel(provider_id, model_name)
    return _resolved(provider, model)


def prices_of(provider_id: str, model_name: str) -> dict[str, Decimal | None]:
    """Return both current prices by column name (USD per 1,000 tokens); None if the price or the model is unknown."""
    columns = ("cost_per_1k_input_tokens", "cost_per_1k_output_tokens")
    row = _models(provider_id).filter(model_name=model_name).values(*columns).first()
    return {column: row[column] if row else None for column in columns}


def require_key(provider_id: str) -> None:
    """Raise if this process cannot call the provider, for example `MissingKey`, which names the variable."""
    client_for(provider_id, _provider(provider_id).api_base_url)


def require_routable(provider_id: str) -> None:
    """Raise if the provider can never be called, whatever keys are set.

    Raises `UnknownProvider`, `InvalidBaseURL`, `InsecureBaseURL` or `HostNotAllowed`.
    """
    require_callable(provider_id, _provider(provider_id).api_base_url)


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
        api_base_url=provider.api_base_url or None,
        model_name=model.model_name,
        model_class=model.model_class,
        cost_per_1k_input_tokens=model.cost_per_1k_input_tokens,
        cost_per_1k_output_tokens=model.cost_per_1k_output_tokens,
        max_output_tokens=model.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
    )
