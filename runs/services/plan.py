"""Resolve everything that a run needs before it is created, so that anything missing is reported immediately."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from django.utils.translation import gettext as _

from llm.errors import LLMError, MissingKey
from llm.selectors import pipeline, require_key, resolve_model, resolve_named_model
from llm.types import PipelineStep, ResolvedModel
from prompts.content import check_agreement
from prompts.models import Prompt
from prompts.rendering import declared_variables
from prompts.selectors import active_prompts
from prompts.types import NAME_PATTERN, PromptVariable
from prompts.validation import shown
from runs.config import REVIEW_COMMENT, ModelChoice, RunConfig
from runs.errors import InvalidRunConfig
from runs.models import StepOverride
from runs.types import PinnedFallback, PinnedStep


def plan_run(*, alias: str, config: RunConfig) -> list[PinnedStep]:
    """Return the steps of a run in order, each with its model, output limit, prompt and fallbacks.

    1. choose the steps; 2. resolve each step's model and output limit, and check its provider's key; 3. find and check
    each step's active prompt; 4. check that inputs and earlier outputs supply the variables that the prompts require,
    in the declared types, and that a prompt uses each input other than keyword and language; 5. resolve the fallbacks.
    Raises `InvalidRunConfig`, `PromptError` or `LLMError`.
    """
    steps = _chosen_steps(config)
    overrides = {row.step: row for row in StepOverride.objects.using(alias).all()}
    models = [model_of(step, overrides.get(step.step), config.models.get(step.step)) for step in steps]
    limits = [_limit_of(model, overrides.get(step.step)) for step, model in zip(steps, models, strict=True)]
    prompts = _prompts_of(alias, [step.step for step in steps])
    _check_inputs(prompts, config.inputs)
    return [
        PinnedStep(
            step.step,
            position,
            model.provider_id,
            model.model_name,
            prompt.pk,
            step.review,
            config.on_truncation or step.on_truncation,
            limit,
            _fallbacks_of(step, overrides.get(step.step), config.models.get(step.step), model),
        )
        for position, (step, model, limit, prompt) in enumerate(zip(steps, models, limits, prompts, strict=True))
    ]


def step_model(*, alias: str, step: str, choice: ModelChoice | None) -> ResolvedModel | None:
    """Return the model that a new run with this choice would use for the step, with the tenant's output limit.

    Returns None if the step is not in the pipeline. The provider's key is not checked. Raises `LLMError`.
    """
    routed = next((one for one in pipeline() if one.step == step), None)
    if routed is None:
        return None
    override = StepOverride.objects.using(alias).filter(step=step).first()
    model = _routed(routed, override, choice)
    limit = _limit_of(model, override)
    return model if limit is None else replace(model, max_output_tokens=limit)


def _chosen_steps(config: RunConfig) -> list[PipelineStep]:
    steps = pipeline()
    names = [step.step for step in steps]
    if not steps:
        raise InvalidRunConfig(
            _("The pipeline has no steps."),
            hint=_("Add them in the admin under Pipeline, or run `seo-gen control setup`."),
            code="pipeline_empty",
        )
    _require_in_pipeline([*(config.steps or ()), *config.models], names)
    chosen = [step for step in steps if config.steps is None or step.step in config.steps]
    for step in chosen:
        if not re.fullmatch(NAME_PATTERN, step.step):
            raise InvalidRunConfig(
                _(
                    "The pipeline has a step with an invalid name, %(step)s: use at most 63 lower-case letters, digits"
                    " and _, and start with a letter."
                )
                % {"step": shown(step.step)},
                code="pipeline_step_invalid",
            )
    _require_chosen(config.models, [step.step for step in chosen])
    return chosen


def _require_in_pipeline(asked: Iterable[str], known: Sequence[str]) -> None:
    for step in asked:
        if step not in known:
            raise InvalidRunConfig(
                _("The run's configuration names step %(step)s, but the steps of the pipeline are: %(known)s.")
                % {"step": shown(step), "known": ", ".join(known)}
            )


def _require_chosen(models: Iterable[str], steps: Sequence[str]) -> None:
    for step in models:
        if step not in steps:
            raise InvalidRunConfig(
                _(
                    "The run's configuration names step %(step)s under `models`, but the steps of the run are only:"
                    " %(known)s."
                )
                % {"step": shown(step), "known": ", ".join(steps)}
            )


def model_of(step: PipelineStep, override: StepOverride | None, choice: ModelChoice | None) -> ResolvedModel:
    """Return a step's model, after checking the provider's key, unless only the workers have it. Raises `LLMError`."""
    resolved = _routed(step, override, choice)
    try:
        require_key(resolved.provider_id)
    except MissingKey:
        if not (step.key_at_workers and resolved.provider_id == step.provider_id):
            raise
    return resolved


def _routed(step: PipelineStep, override: StepOverride | None, choice: ModelChoice | None) -> ResolvedModel:
    """Return a step's model. Raises `LLMError`.

    The run's choice has precedence over the tenant's override, and the override over the pipeline's default. The
    override's model is ignored if the run chooses a provider or a class.
    """
    override = override or StepOverride(step=step.step)
    provider = (choice and choice.provider) or override.llm_provider or step.provider_id
    model_class = (choice and choice.model_class) or override.model_class or step.model_class
    name = choice.model if choice else None
    if choice is None or not (choice.provider or choice.model_class):
        name = name or override.llm_model
    return resolve_named_model(provider, name) if name else resolve_model(provider, model_class)


def _limit_of(model: ResolvedModel, override: StepOverride | None) -> int | None:
    """Return the tenant's own output limit for the step, at most the model's; None if the tenant has set none."""
    if override is None or override.output_limit is None:
        return None
    return min(override.output_limit, model.max_output_tokens)


def _fallbacks_of(
    step: PipelineStep, override: StepOverride | None, choice: ModelChoice | None, model: ResolvedModel
) -> tuple[PinnedFallback, ...]:
    """Return the step's fallbacks that can be resolved now, in order, each once and without the step's own model.

    Fallbacks belong to the pipeline's own route. If the run or the tenant chose a provider, class or model, the result
    is empty: no one has agreed to send the texts elsewhere. Keys are checked when a fallback is used.
    """
    if choice and (choice.provider or choice.model_class or choice.model):
        return ()
    if override and (override.llm_provider or override.model_class or override.llm_model):
        return ()
    own = PinnedFallback(provider=model.provider_id, model=model.model_name)
    found: list[PinnedFallback] = []
    for fallback in step.fallbacks:
        with suppress(LLMError):
            other = resolve_model(fallback.provider_id, fallback.model_class)
            pinned = PinnedFallback(provider=other.provider_id, model=other.model_name)
            found += [pinned] if pinned not in (own, *found) else []
    return tuple(found)


def _prompts_of(alias: str, steps: Sequence[str]) -> list[Prompt]:
    active = active_prompts(alias=alias, steps=steps)
    for step in steps:
        if step not in active:
            raise InvalidRunConfig(
                _("Step %(step)s has no active prompt.") % {"step": step},
                hint=_("Create or activate one in the tenant's admin under Prompts."),
                code="prompt_missing",
            )
        check_agreement(active[step])
    return [active[step] for step in steps]


def _check_inputs(prompts: Sequence[Prompt], inputs: Mapping[str, object]) -> None:
    outputs = [prompt.step for prompt in prompts]
    _refuse_names_of_steps(inputs, outputs)
    _refuse_review_comment(inputs)
    declared: set[str] = set()
    for position, prompt in enumerate(prompts):
        variables = declared_variables(prompt.variables)
        declared |= {variable.name for variable in variables}
        for variable in variables:
            _check_variable(prompt, variable, inputs, outputs[:position])
    for name in inputs:
        if name not in declared | {"keyword", "language"}:
            raise InvalidRunConfig(
                _(
                    "The run's configuration contains %(name)s, but no prompt of this run uses it. Its prompts use:"
                    " %(known)s."
                )
                % {"name": shown(name), "known": ", ".join(sorted(declared - {*outputs, REVIEW_COMMENT})) or "-"}
            )


def _refuse_names_of_steps(inputs: Collection[str], steps: Sequence[str]) -> None:
    for step in steps:
        if step in inputs:
            raise InvalidRunConfig(
                _("The run's configuration contains %(name)s, which is the output of a step of this run.")
                % {"name": shown(step)},
                hint=_("List only the other steps in `steps`, or remove the input."),
            )


def _refuse_review_comment(inputs: Collection[str]) -> None:
    if REVIEW_COMMENT in inputs:
        raise InvalidRunConfig(
            _("The run's configuration contains review_comment, which only a reviewer can give."),
            hint=_("Remove this input."),
        )


def _check_variable(
    prompt: Prompt, variable: PromptVariable, inputs: Mapping[str, object], earlier: Sequence[str]
) -> None:
    wanted = {"name": variable.name, "type": variable.type, "prompt": prompt, "id": prompt.pk}
    if variable.name == REVIEW_COMMENT:
        _check_review_comment(prompt, variable)
    elif variable.name in earlier:
        if variable.type != "string":
            raise InvalidRunConfig(
                _("Prompt %(id)d (%(prompt)s) declares %(name)s as %(type)s, but the output of a step is a string.")
                % wanted,
                code="prompt_input_mismatch",
            )
    elif variable.name in inputs:
        if not variable.accepts(inputs[variable.name]):
            raise InvalidRunConfig(
                _(
                    "The type of %(name)s in the run's configuration must be %(type)s, as prompt %(id)d (%(prompt)s)"
                    " declares it."
                )
                % wanted
            )
        if variable.required and inputs[variable.name] in ("", []):
            raise InvalidRunConfig(
                _("Prompt %(id)d (%(prompt)s) requires %(name)s, but it is empty in the run's configuration.") % wanted
            )
    elif variable.required:
        raise InvalidRunConfig(
            _("Prompt %(id)d (%(prompt)s) requires %(name)s, but no input or earlier step provides it.") % wanted
        )


def _check_review_comment(prompt: Prompt, variable: PromptVariable) -> None:
    """Raise `InvalidRunConfig` unless the variable is an optional string: it is empty until the run is sent back."""
    if variable.required or variable.type != "string":
        raise InvalidRunConfig(
            _("Prompt %(id)d (%(prompt)s) declares review_comment, but not as an optional string.")
            % {"prompt": prompt, "id": prompt.pk},
            code="prompt_input_mismatch",
        )
