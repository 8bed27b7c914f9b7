"""Resolve everything that a run needs before it is created, so that anything missing is reported at once."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from django.utils.translation import gettext as _

from llm.selectors import pipeline, require_key, resolve_model, resolve_named_model
from llm.types import PipelineStep
from prompts.models import Prompt
from prompts.rendering import declared_variables
from prompts.selectors import active_prompts
from prompts.services import check_agreement
from prompts.types import NAME_PATTERN, PromptVariable
from prompts.validation import shown
from runs.config import ModelChoice, RunConfig
from runs.errors import InvalidRunConfig
from runs.types import PinnedStep


def plan_run(*, alias: str, config: RunConfig) -> list[PinnedStep]:
    """Pin the provider, model and prompt of each step of a run, in order.

    1. choose the steps; 2. resolve each step's model and check its provider's key; 3. find each step's active prompt;
    4. check that inputs, defaults and earlier outputs supply the variables that the prompts declare. Raises
    `InvalidRunConfig`, `PromptError` or `LLMError`, each naming what is missing.
    """
    steps = _chosen_steps(config)
    models = [_model_of(step, config.models.get(step.step)) for step in steps]
    prompts = _prompts_of(alias, [step.step for step in steps])
    _check_inputs(prompts, config.inputs)
    return [
        PinnedStep(step.step, position, provider, model, prompt.pk)
        for position, (step, (provider, model), prompt) in enumerate(zip(steps, models, prompts, strict=True))
    ]


def _chosen_steps(config: RunConfig) -> list[PipelineStep]:
    steps = pipeline()
    names = [step.step for step in steps]
    if not steps:
        raise InvalidRunConfig(
            _("The pipeline has no steps."),
            hint=_("Add them in the admin under Pipeline, or run `seo-gen control setup`."),
            code="pipeline_empty",
        )
    _require_known([*(config.steps or ()), *config.models], names)
    chosen = [step for step in steps if config.steps is None or step.step in config.steps]
    for step in chosen:
        if not re.fullmatch(NAME_PATTERN, step.step):
            raise InvalidRunConfig(
                _(
                    "The pipeline has a step with an invalid name, %(step)s: use lower-case letters, "
                    "digits and _ only, starting with a letter."
                )
                % {"step": shown(step.step)},
                code="pipeline_step_invalid",
            )
    _require_known(config.models, [step.step for step in chosen])
    return chosen


def _require_known(asked: Iterable[str], known: Sequence[str]) -> None:
    for step in asked:
        if step not in known:
            raise InvalidRunConfig(
                _("The run's configuration names step %(step)s, but the steps are: %(known)s.")
                % {"step": shown(step), "known": ", ".join(known)}
            )


def _model_of(step: PipelineStep, choice: ModelChoice | None) -> tuple[str, str]:
    """Return a step's provider and model name, once the provider's key is checked."""
    provider = choice.provider if choice and choice.provider else step.provider_id
    if choice and choice.model:
        resolved = resolve_named_model(provider, choice.model)
    else:
        model_class = choice.model_class if choice and choice.model_class else step.model_class
        resolved = resolve_model(provider, model_class)
    require_key(provider)
    return resolved.provider_id, resolved.model_name


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
    declared: set[str] = set()
    for position, prompt in enumerate(prompts):
        variables = declared_variables(prompt.variables)
        declared |= {variable.name for variable in variables}
        for variable in variables:
            _check_variable(prompt, variable, inputs, outputs[:position])
    for name in inputs:
        if name not in declared | {"keyword", "language"}:
            raise InvalidRunConfig(
                _("The run's configuration contains %(name)s, but no prompt uses it. The prompts use: %(known)s.")
                % {"name": shown(name), "known": ", ".join(sorted(declared - set(outputs))) or "-"}
            )


def _refuse_names_of_steps(inputs: Collection[str], steps: Sequence[str]) -> None:
    for step in steps:
        if step in inputs:
            raise InvalidRunConfig(
                _("The run's configuration contains %(name)s, which is the output of a step of this run.")
                % {"name": shown(step)},
                hint=_("Exclude the step with `steps`, or remove the input."),
            )


def _check_variable(
    prompt: Prompt, variable: PromptVariable, inputs: Mapping[str, object], earlier: Sequence[str]
) -> None:
    wanted = {"name": variable.name, "type": variable.type, "prompt": prompt, "id": prompt.pk}
    if variable.name in earlier:
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
        if variable.required and inputs[variable.name] == "":
            raise InvalidRunConfig(
                _("Prompt %(id)d (%(prompt)s) requires %(name)s, but it is empty in the run's configuration.") % wanted
            )
    elif variable.required:
        raise InvalidRunConfig(
            _("Prompt %(id)d (%(prompt)s) requires %(name)s, but no input or earlier step provides it.") % wanted
        )
