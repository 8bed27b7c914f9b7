"""The configuration of a run: one JSON object with its inputs and what it overrides.

    {"keyword": "…", "language": "ja", "audience": "…",      inputs, by the names that the prompts declare
     "steps": ["outline", "draft"],                          only these steps of the pipeline
     "models": {"draft": {"provider": "claude", "model_class": "pro"}}}

Only its shape is checked here; `runs.services.plan` holds it against the pipeline, the prompts and the models.
"""

import json
import re
from typing import Annotated, Any, TypeAlias

from django.utils.translation import gettext as _
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from config.base.text import INVISIBLE, has_control_characters, is_blank, strip_invisible
from prompts.types import NAME_PATTERN
from prompts.validation import first_problem, shown
from runs.errors import InvalidRunConfig

# As text; a keyword and a few sentences about the audience need one or two.
MAX_CONFIG_BYTES = 64 * 1024
MAX_KEYWORD_CHARS = 200
_LANGUAGES = ("ja", "en")
# A NUL as json.dumps writes it, not the six characters that happen to follow an escaped backslash.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# Larger ones are no inputs, and Python refuses to read thousands of digits.
_MAX_DIGITS = 18


def _keyword(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Marks that a spreadsheet puts around its cells are stripped; a line break at the end is still a mistake.
    if has_control_characters(value.strip(INVISIBLE)):
        raise ValueError(_("holds a control character"))
    return strip_invisible(value)


def _input(value: JsonValue) -> JsonValue:
    """Return an input as prompts get it: no byte order mark in front, and "" for what shows nothing."""
    return ("" if is_blank(value) else value.removeprefix("\ufeff")) if isinstance(value, str) else value


def _language(value: object) -> object:
    if value not in _LANGUAGES:
        raise ValueError(_("must be ja or en, not %(input)s") % {"input": shown(value)})
    return value


Identifier: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class ModelChoice(BaseModel):
    """Another model for a step: a provider, and a class of models or one model by name. What is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    provider: Identifier | None = None
    model_class: Identifier | None = None
    model: Identifier | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "ModelChoice":
        if self.model is not None and self.model_class is not None:
            raise ValueError(_("names both model and model_class"))
        if self.provider is None and self.model is None and self.model_class is None:
            raise ValueError(_("names none of provider, model_class and model"))
        return self


class RunConfig(BaseModel):
    """A configuration whose shape is right; every further key is an input."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    keyword: Annotated[str, BeforeValidator(_keyword), StringConstraints(min_length=1, max_length=MAX_KEYWORD_CHARS)]
    language: Annotated[str, BeforeValidator(_language)] = "ja"
    # None: the whole pipeline.
    steps: Annotated[list[Identifier], Field(min_length=1)] | None = None
    models: dict[str, ModelChoice] = {}

    @model_validator(mode="after")
    def _steps_differ(self) -> "RunConfig":
        for step in self.steps or ():
            if self.steps and self.steps.count(step) > 1:
                raise ValueError(_("steps names %(step)s twice") % {"step": shown(step)})
        return self

    @property
    def inputs(self) -> dict[str, JsonValue]:
        """Return the values for the prompts' variables; an input that is null counts as not given."""
        given = {name: _input(value) for name, value in self.__pydantic_extra__.items() if value is not None}
        return {"keyword": self.keyword, "language": self.language, **given}

    def document(self) -> dict[str, Any]:
        """Return what `Run.config` keeps."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"language": self.language}


def config_from_text(text: str) -> RunConfig:
    """Read a configuration from JSON text; raise `InvalidRunConfig` with one sentence."""
    if len(text.encode(errors="surrogatepass")) > MAX_CONFIG_BYTES:
        raise InvalidRunConfig(
            _("The run's configuration is larger than %(limit)d KiB.") % {"limit": MAX_CONFIG_BYTES // 1024}
        )
    try:
        document = json.loads(text, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        reason = _("it is nested too deeply") if isinstance(error, RecursionError) else str(error)
        raise InvalidRunConfig(
            _("The run's configuration is not valid JSON: %(reason)s.") % {"reason": reason},
            hint=_('It looks like {"keyword": "coffee grinder", "language": "en"}.'),
        ) from error
    return config_from_document(document)


def config_from_document(document: object) -> RunConfig:
    """Check a decoded configuration; raise `InvalidRunConfig` with one sentence."""
    if not isinstance(document, dict):
        raise InvalidRunConfig(
            _("The run's configuration must be a JSON object, not %(input)s.") % {"input": shown(document)},
            hint=_('It looks like {"keyword": "coffee grinder", "language": "en"}.'),
        )
    _require_storable(document)
    try:
        config = RunConfig.model_validate(document)
    except ValidationError as error:
        raise InvalidRunConfig(
            _("The run's configuration is refused: %(problem)s.") % {"problem": first_problem(error)}
        ) from error
    for name in config.__pydantic_extra__:
        _require_input_name(name)
    return config


def _require_storable(document: object) -> None:
    """PostgreSQL's jsonb knows neither U+0000 nor half a surrogate pair; the limit holds for every way in."""
    try:
        encoded = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRunConfig(_("The run's configuration holds what JSON text cannot.")) from error
    if _NUL.search(encoded):
        raise InvalidRunConfig(_("The run's configuration holds a NUL character."))
    if len(encoded) > MAX_CONFIG_BYTES:
        raise InvalidRunConfig(
            _("The run's configuration is larger than %(limit)d KiB.") % {"limit": MAX_CONFIG_BYTES // 1024}
        )


def _require_input_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRunConfig(
            _("The run's configuration is refused: %(name)s cannot be an input's name.") % {"name": shown(name)}
        )


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(_("a number has more than %(limit)d digits") % {"limit": _MAX_DIGITS})
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(_("%(name)s is no JSON number") % {"name": name})


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(_("the key %(name)s stands twice in one object") % {"name": shown(twice)})
    return document
