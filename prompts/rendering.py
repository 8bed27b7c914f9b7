"""Jinja2 templates in the sandbox: what they use, and their text once rendered."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from django.utils.translation import gettext as _
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import TypeAdapter, ValidationError

from prompts.errors import InvalidPrompt, PromptRenderError
from prompts.types import PromptVariable
from prompts.validation import first_problem

# A rendered prompt of 4 MiB is beyond every model's context: a loop that ran away.
MAX_RENDERED_CHARS = 4 * 1024 * 1024
# One template as text.
MAX_TEMPLATE_CHARS = 64 * 1024

_declarations = TypeAdapter(list[PromptVariable])


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    environment.globals = {"range": environment.globals["range"]}
    environment.lstrip_blocks = True
    return environment


_jinja = _environment()


def declared_variables(document: object) -> tuple[PromptVariable, ...]:
    """Read the JSON of `Prompt.variables` (None: none); raise `InvalidPrompt` naming what is wrong."""
    try:
        variables = tuple(_declarations.validate_python([] if document is None else document))
    except ValidationError as error:
        raise InvalidPrompt(_("Prompt variables: %(problem)s.") % {"problem": first_problem(error)}) from error
    names = [variable.name for variable in variables]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPrompt(_("Prompt variables: %(name)s is declared twice.") % {"name": name})
    return variables


def names_used(content: str) -> frozenset[str]:
    """Return the names that a template expects to be given; raise `InvalidPrompt` where it is no template."""
    try:
        parsed = _jinja.parse(content)
        names = meta.find_undeclared_variables(parsed)
    except TemplateError as error:
        raise InvalidPrompt(_("The template is not valid Jinja2: %(reason)s.") % {"reason": _reason(error)}) from error
    if any(True for _template in meta.find_referenced_templates(parsed)):
        raise InvalidPrompt(_("The template uses include, import or extends; a prompt is one text."))
    return frozenset(names) - _jinja.globals.keys()


def undeclared(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `content` uses and `variables` does not declare."""
    return names_used(content) - {variable.name for variable in variables}


def unused(content: str, variables: Iterable[PromptVariable]) -> frozenset[str]:
    """Return the names that `variables` declares and `content` does not use."""
    return frozenset({variable.name for variable in variables}) - names_used(content)


def render(content: str, variables: Iterable[PromptVariable], values: Mapping[str, object], *, prompt: str) -> str:
    """Render `content` with the declared variables alone, taken from `values` or their defaults.

    `prompt` says in messages which prompt it was. Raises `PromptRenderError`: a required value is missing, a value has
    another type than declared, or the template fails.
    """
    given = {variable.name: _value(variable, values, prompt) for variable in variables}
    try:
        return _bounded(_compiled(content).generate(given), prompt)
    except PromptRenderError:
        raise
    except TemplateError as error:
        raise PromptRenderError(_failure(prompt, _reason(error))) from error
    except Exception as error:  # a template can divide by zero, index past an end, …: its author's mistake, not ours
        raise PromptRenderError(_failure(prompt, type(error).__name__)) from error


@lru_cache(maxsize=128)
def _compiled(content: str) -> Template:
    return _jinja.from_string(content)


def _bounded(pieces: Iterable[str], prompt: str) -> str:
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_RENDERED_CHARS:
            limit = _("longer than %(limit)d characters") % {"limit": MAX_RENDERED_CHARS}
            raise PromptRenderError(_failure(prompt, limit))
        kept.append(piece)
    return "".join(kept)


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


def _reason(error: TemplateError) -> str:
    reason = (error.message or type(error).__name__).rstrip(".")
    line = getattr(error, "lineno", None)
    return _("%(reason)s (line %(line)d)") % {"reason": reason, "line": line} if line else reason
