"""The inputs that a tenant's runs take: the variables that its active prompts declare."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from llm.selectors import pipeline
from prompts.errors import PromptError
from prompts.rendering import declared_variables
from prompts.selectors import active_prompts
from prompts.types import PromptVariable, VariableType
from runs.config import REVIEW_COMMENT

# Every run has these, whatever the prompts declare.
COMMON = ("keyword", "language")


@dataclass
class DeclaredInput:
    """A value that a run is given, as one or more prompts declare it."""

    name: str
    type: VariableType
    required: bool
    default: object
    description: str
    # The steps whose prompts use it, in order.
    steps: list[str] = field(default_factory=list)


def declared_inputs(*, alias: str) -> list[DeclaredInput]:
    """Return the inputs other than keyword and language, in the order in which the pipeline's steps first use them.

    Outputs of earlier steps and the reviewer's comment are not inputs. A prompt with invalid declarations is left out:
    a run that uses it is refused with a message about it.
    """
    steps = [step.step for step in pipeline()]
    prompts = active_prompts(alias=alias, steps=steps)
    found: dict[str, DeclaredInput] = {}
    for position, step in enumerate(steps):
        if step not in prompts:
            continue
        with suppress(PromptError):
            taken = {*COMMON, REVIEW_COMMENT, *steps[:position]}
            _add(found, step, (one for one in declared_variables(prompts[step].variables) if one.name not in taken))
    return list(found.values())


def _add(found: dict[str, DeclaredInput], step: str, variables: Iterable[PromptVariable]) -> None:
    for variable in variables:
        known = found.setdefault(
            variable.name,
            DeclaredInput(variable.name, variable.type, False, variable.default, variable.description),
        )
        known.required |= variable.required
        known.default = variable.default if known.default is None else known.default
        known.description = known.description or variable.description
        known.steps.append(step)
