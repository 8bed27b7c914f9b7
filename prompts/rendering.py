"""Jinja2 templates: the names they use, and rendering.

Templates are compiled and rendered only in a separate process with limits (`prompts.sandbox`).
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _
from pydantic import TypeAdapter, ValidationError

from prompts import sandbox
from prompts.errors import InvalidPrompt, PromptRenderError
from prompts.types import PromptVariable
from prompts.validation import first_problem, is_storable
from tenants.errors import because

# Beyond every model's context, so a longer text comes from a runaway loop.
MAX_RENDERED_CHARS = 4 * 1024 * 1024
# The source of one template.
MAX_TEMPLATE_CHARS = 64 * 1024

# A comment, so that the text is the same without it. Jinja2 too drops the white space around a comment on its own line.
CACHE_COMMENT = re.compile(r"(?m:^[ \t]+)?\{#\s*cache\s*#\}\n?")

_declarations = TypeAdapter(list[PromptVariable])


def declared_variables(document: object) -> tuple[PromptVariable, ...]:
    """Parse the JSON of `Prompt.variables` (None: no variables). Raises `InvalidPrompt` with the first problem."""
    try:
        variables = tuple(_declarations.validate_python([] if document is None else document))
    except ValidationError as error:
        raise InvalidPrompt(_("Prompt variables: %(problem)s.") % {"problem": first_problem(error)}) from error
    if not is_storable(document):
        raise InvalidPrompt(
            _("Prompt variables: a value cannot be stored (a NUL character, an unpaired surrogate, NaN or infinity).")
        )
    names = [variable.name for variable in variables]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPrompt(_("Prompt variables: %(name)s is declared more than once.") % {"name": name})
    return variables


@lru_cache(maxsize=128)
def names_used(content: str) -> frozenset[str]:
    """Return the names that a template expects values for.

    Raises `InvalidPrompt` if it is not a single template or cannot be compiled within the limits, and
    `SandboxUnavailable` if it cannot be checked now.
    """
    answer = sandbox.ask({"action": "names", "content": content})
    match answer.get("problem"):
        case None:
            pass
        case "syntax" | "failure":
            raise InvalidPrompt(_invalid(answer))
        case _limit:
            raise InvalidPrompt(because(_("The template cannot be compiled."), _limit_exceeded(answer)))
    if answer["references"]:
        raise InvalidPrompt(_("The template uses include, import or extends, but a prompt must be a single template."))
    return frozenset(answer["names"])


def undeclared(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `content` uses and `variables` does not declare."""
    return names_used(content) - {variable.name for variable in variables}


def unused(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `variables` declares and `content` does not use."""
    return frozenset({variable.name for variable in variables}) - names_used(content)


@dataclass(frozen=True)
class Rendered:
    """A rendered template. A later step's prompt may begin with the text before a cache point."""

    text: str
    # In characters, ascending.
    cache_points: tuple[int, ...] = ()


def render(content: str, variables: Iterable[PromptVariable], values: Mapping[str, object], *, prompt: str) -> str:
    """Render as `render_with_cache_points` does; return only the text."""
    return render_with_cache_points(content, variables, values, prompt=prompt).text


def render_with_cache_points(
    content: str, variables: Iterable[PromptVariable], values: Mapping[str, object], *, prompt: str
) -> Rendered:
    """Render `content` with the declared variables only, taken from `values` or their defaults.

    A comment {# cache #} in the template makes a cache point. `prompt` identifies the prompt in messages. Raises
    `PromptRenderError` if a required value is missing, a value does not have the declared type, or the template fails
    or exceeds a limit; `SandboxUnavailable` if a retry may succeed.
    """
    given = {variable.name: _value(variable, values, prompt) for variable in variables}
    # Random, so that no value can contain it.
    mark = f"\x1f{secrets.token_hex(8)}\x1f"
    marked = CACHE_COMMENT.sub(mark, content)
    answer = sandbox.ask({"action": "render", "content": marked, "values": given, "max_chars": MAX_RENDERED_CHARS})
    if "problem" in answer:
        raise PromptRenderError(_failed(prompt, answer))
    return _split(str(answer["text"]), mark)


def _split(text: str, mark: str) -> Rendered:
    """Return the text without the marks, with cache points; leave out those that would delimit only white space."""
    parts = text.split(mark)
    whole, points, end = "".join(parts), list[int](), 0
    for part in parts[:-1]:
        end += len(part)
        if part.strip():
            points.append(end)
        elif points:
            points[-1] = end
    if points and not whole[points[-1] :].strip():
        points.pop()
    return Rendered(whole, tuple(points))


def _value(variable: PromptVariable, values: Mapping[str, object], prompt: str) -> object:
    value = values.get(variable.name)
    if value is None:
        if variable.required:
            missing = _("The required variable %(name)s has no value.") % {"name": variable.name}
            raise PromptRenderError(because(_failure(prompt), missing))
        return variable.default
    if not variable.accepts(value):
        wrong = _("The value of %(name)s is not of type %(type)s.") % {"name": variable.name, "type": variable.type}
        raise PromptRenderError(because(_failure(prompt), wrong))
    return value


def _failure(prompt: str) -> str:
    return _("Prompt %(prompt)s cannot be rendered.") % {"prompt": prompt}


def _failed(prompt: str, answer: Mapping[str, Any]) -> str:
    limit = _limit_exceeded(answer)
    if limit:
        return because(_failure(prompt), limit)
    return _("Prompt %(prompt)s cannot be rendered: %(reason)s.") % {"prompt": prompt, "reason": answer["reason"]}


def _limit_exceeded(answer: Mapping[str, Any]) -> str:
    """Return a sentence about the limit that ended the template; "" if none did."""
    match answer["problem"]:
        case "time":
            return _("It takes too long.")
        case "memory":
            return _("It needs more than %(limit)d MiB of memory.") % {"limit": sandbox.LIMITS.memory_bytes // 1024**2}
        case "length":
            return _("The rendered text is longer than %(limit)d characters.") % {"limit": MAX_RENDERED_CHARS}
        case "depth" | "crash":
            return _("It nests or recurses too deeply.")
    return ""


def _invalid(answer: Mapping[str, Any]) -> str:
    if answer["line"]:
        return _("The template is not valid Jinja2: %(reason)s (line %(line)d).") % answer
    return _("The template cannot be compiled: %(reason)s.") % answer
