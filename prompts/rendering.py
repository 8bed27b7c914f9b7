"""Jinja2 templates: the names they use, and rendering.

Templates are compiled and rendered only in a separate process with limits (`prompts.sandbox`).
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _
from pydantic import TypeAdapter, ValidationError

from prompts import sandbox
from prompts.errors import InvalidPrompt, PromptRenderError
from prompts.types import PromptVariable
from prompts.validation import first_problem, is_storable

# Beyond every model's context, so a longer text comes from a runaway loop.
MAX_RENDERED_CHARS = 4 * 1024 * 1024
# The source of one template.
MAX_TEMPLATE_CHARS = 64 * 1024

_declarations = TypeAdapter(list[PromptVariable])


def declared_variables(document: object) -> tuple[PromptVariable, ...]:
    """Parse the JSON of `Prompt.variables` (None: no variables). Raises `InvalidPrompt` with the first problem."""
    try:
        variables = tuple(_declarations.validate_python([] if document is None else document))
    except ValidationError as error:
        raise InvalidPrompt(_("Prompt variables: %(problem)s.") % {"problem": first_problem(error)}) from error
    if not is_storable(document):
        raise InvalidPrompt(_("Prompt variables: a text contains a NUL character or half a surrogate pair."))
    names = [variable.name for variable in variables]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPrompt(_("Prompt variables: %(name)s is declared twice.") % {"name": name})
    return variables


@lru_cache(maxsize=128)
def names_used(content: str) -> frozenset[str]:
    """Return the names that a template expects values for.

    Raises `InvalidPrompt` if it is not a template or cannot be compiled within the limits, and `SandboxUnavailable` if
    it cannot be checked now.
    """
    answer = sandbox.ask({"action": "names", "content": content})
    match answer.get("problem"):
        case None:
            pass
        case "syntax" | "failure":
            raise InvalidPrompt(_("The template is not valid Jinja2: %(reason)s.") % {"reason": _reason(answer)})
        case _limit:
            raise InvalidPrompt(_("The template cannot be compiled: %(reason)s.") % {"reason": _reason(answer)})
    if answer["references"]:
        raise InvalidPrompt(_("The template uses include, import or extends, but a prompt must be a single template."))
    return frozenset(answer["names"])


def undeclared(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `content` uses and `variables` does not declare."""
    return names_used(content) - {variable.name for variable in variables}


def unused(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `variables` declares and `content` does not use."""
    return frozenset({variable.name for variable in variables}) - names_used(content)


def render(content: str, variables: Iterable[PromptVariable], values: Mapping[str, object], *, prompt: str) -> str:
    """Render `content` with the declared variables only, taken from `values` or their defaults.

    `prompt` identifies the prompt in messages. Raises `PromptRenderError` if a required value is missing, a value does
    not have the declared type, or the template fails or exceeds a limit; `SandboxUnavailable` if a retry may succeed.
    """
    given = {variable.name: _value(variable, values, prompt) for variable in variables}
    answer = sandbox.ask(
        {"action": "render", "content": content, "values": given, "max_chars": MAX_RENDERED_CHARS},
    )
    if "problem" in answer:
        raise PromptRenderError(_failure(prompt, _reason(answer)))
    return str(answer["text"])


def _value(variable: PromptVariable, values: Mapping[str, object], prompt: str) -> object:
    value = values.get(variable.name)
    if value is None:
        if variable.required:
            missing = _("the required variable %(name)s has no value") % {"name": variable.name}
            raise PromptRenderError(_failure(prompt, missing))
        return variable.default
    if not variable.accepts(value):
        wrong = _("the variable %(name)s is not of type %(type)s") % {"name": variable.name, "type": variable.type}
        raise PromptRenderError(_failure(prompt, wrong))
    return value


def _failure(prompt: str, reason: str) -> str:
    return _("Prompt %(prompt)s cannot be rendered: %(reason)s.") % {"prompt": prompt, "reason": reason}


def _reason(answer: Mapping[str, Any]) -> str:
    """Return one clause that says what the template did wrong."""
    match answer["problem"]:
        case "time":
            return _("it needs more than %(limit)g s of CPU time") % {"limit": sandbox.LIMITS.cpu_s}
        case "memory":
            return _("it needs more than %(limit)d MiB of memory") % {"limit": sandbox.LIMITS.memory_bytes // 1024**2}
        case "length":
            return _("the text is longer than %(limit)d characters") % {"limit": MAX_RENDERED_CHARS}
        case "depth" | "crash":
            return _("it is nested too deeply")
    if answer["line"]:
        return _("%(reason)s (line %(line)d)") % answer
    return str(answer["reason"])
