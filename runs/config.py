"""The configuration of a run: one JSON object with its inputs and overrides.

    {"keyword": "…", "language": "ja", "audience": "…",      inputs, under the names that the prompts declare
     "steps": ["outline", "draft"],                          only these steps of the pipeline
     "retry_budget_s": 3600,                                 give up a step that has kept failing for this long
     "budget_usd": 2.5,                                      all its calls together may cost at most this, in US dollars
     "on_truncation": "accept",                              what to do with truncated replies: retry, fail, accept
     "series_id": "0b9f…",                                   the runs that were started together from one list
     "models": {"draft": {"provider": "claude", "model_class": "pro"}}}

This module checks only the shape of the object; `runs.services.plan` checks it against the pipeline, the prompts and
the models.
"""

import json
import re
from decimal import Decimal
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
from llm.models import OnTruncation
from prompts.types import NAME_PATTERN
from prompts.validation import first_problem, shown
from runs.errors import InvalidRunConfig

# The size limit of the JSON text. A keyword and a few sentences about the audience need one or two KiB.
MAX_CONFIG_BYTES = 64 * 1024
MAX_KEYWORD_CHARS = 200
_LANGUAGES = ("ja", "en")
# A NUL as json.dumps writes it, but not the same six characters after an escaped backslash.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
MAX_BUDGET_USD = 1_000_000
MAX_RETRY_BUDGET_S = 30 * 24 * 3600
# The variable that holds what a reviewer wants changed; "" if there was no review. It is not an input: the run supplies
# it.
REVIEW_COMMENT = "review_comment"
# No real input is larger, and Python refuses to parse integers of thousands of digits.
MAX_DIGITS = 18


def _keyword(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Strip the invisible marks that spreadsheets put around cells; a trailing line break is still a mistake.
    if has_control_characters(value.strip(INVISIBLE)):
        raise ValueError(_("contains a control character"))
    return strip_invisible(value)


def _input(value: JsonValue) -> JsonValue:
    """Return an input as prompts receive it: without a leading byte order mark, and "" if it is blank."""
    return ("" if is_blank(value) else value.removeprefix("\ufeff")) if isinstance(value, str) else value


def _language(value: object) -> object:
    if value not in _LANGUAGES:
        raise ValueError(_("must be ja or en, not %(input)s") % {"input": shown(value)})
    return value


def _on_truncation(value: object) -> object:
    if value is not None and value not in OnTruncation.values:
        raise ValueError(_("must be retry, fail or accept, not %(input)s") % {"input": shown(value)})
    return value


def _retry_budget_s(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value <= MAX_RETRY_BUDGET_S):  # type: ignore[operator]
        raise ValueError(
            _("must be a number of seconds above 0 and up to %(limit)d, not %(input)s")
            % {"limit": MAX_RETRY_BUDGET_S, "input": shown(value)}
        )
    return value


def _budget_usd(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and is_budget(Decimal(str(value)))):
        raise ValueError(
            _(
                "must be a number of US dollars above 0 and up to %(limit)d, with at most six decimal places, not"
                " %(input)s"
            )
            % {"limit": MAX_BUDGET_USD, "input": shown(value)}
        )
    return value


def is_budget(amount: Decimal) -> bool:
    """Return whether an amount in USD can be a budget: above 0, up to the maximum, with at most six decimal places."""
    return amount.is_finite() and 0 < amount <= MAX_BUDGET_USD and not amount % Decimal("0.000001")


Identifier: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class ModelChoice(BaseModel):
    """A run's choice of a step's provider, model class or model; a class and a model exclude each other.

    An omitted provider or class is taken from the tenant's override or the pipeline (`runs.services.plan`). A model
    that the override names is ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    provider: Identifier | None = None
    model_class: Identifier | None = None
    model: Identifier | None = None

    @model_validator(mode="after")
    def _is_unambiguous(self) -> "ModelChoice":
        if self.model is not None and self.model_class is not None:
            raise ValueError(_("has both model and model_class"))
        if self.provider is None and self.model is None and self.model_class is None:
            raise ValueError(_("needs at least one of provider, model_class and model"))
        return self


class RunConfig(BaseModel):
    """A configuration whose shape has been checked. A key that is not among the fields below is an input."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    keyword: Annotated[str, BeforeValidator(_keyword), StringConstraints(min_length=1, max_length=MAX_KEYWORD_CHARS)]
    language: Annotated[str, BeforeValidator(_language)] = "ja"
    # None: the whole pipeline.
    steps: Annotated[list[Identifier], Field(min_length=1)] | None = None
    models: dict[str, ModelChoice] = {}
    # For how many seconds a failing step is retried; None: `RUN_RETRY_BUDGET_S`.
    retry_budget_s: Annotated[int | float | None, BeforeValidator(_retry_budget_s)] = None
    # The most that all its calls may cost, in US dollars; None: `Tenant.run_budget_usd` applies.
    budget_usd: Annotated[int | float | None, BeforeValidator(_budget_usd)] = None
    # What to do with a reply that reached the output limit; None: what each step of the pipeline says.
    on_truncation: Annotated[str | None, BeforeValidator(_on_truncation)] = None
    # Shared by the runs that were started together (`runs.series`); None: it was started alone.
    series_id: Identifier | None = None

    @model_validator(mode="after")
    def _steps_are_unique(self) -> "RunConfig":
        for step in self.steps or ():
            if self.steps and self.steps.count(step) > 1:
                raise ValueError(_("steps lists %(step)s more than once") % {"step": shown(step)})
        return self

    @property
    def inputs(self) -> dict[str, JsonValue]:
        """The values for the prompts' variables; a null input counts as missing."""
        given = {name: _input(value) for name, value in self.__pydantic_extra__.items() if value is not None}
        return {"keyword": self.keyword, "language": self.language, **given}

    def document(self) -> dict[str, Any]:
        """Return the JSON document to store in `Run.config`."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"language": self.language}


def config_from_text(text: str) -> RunConfig:
    """Return the configuration that a JSON text contains, checked. Raises `InvalidRunConfig`."""
    if len(text.encode(errors="surrogatepass")) > MAX_CONFIG_BYTES:
        raise InvalidRunConfig(
            _("The run's configuration is larger than %(limit)d KiB.") % {"limit": MAX_CONFIG_BYTES // 1024}
        )
    try:
        document = json.loads(text, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        reason = _("it is nested too deeply") if isinstance(error, RecursionError) else str(error)
        raise InvalidRunConfig(
            _("The run's configuration cannot be read as JSON: %(reason)s.") % {"reason": reason},
            hint=_('Example: {"keyword": "coffee grinder", "language": "en"}.'),
        ) from error
    return config_from_document(document)


def config_from_document(document: object) -> RunConfig:
    """Return the configuration that a decoded JSON document contains, checked. Raises `InvalidRunConfig`."""
    if not isinstance(document, dict):
        raise InvalidRunConfig(
            _("The run's configuration must be a JSON object, not %(input)s.") % {"input": shown(document)},
            hint=_('Example: {"keyword": "coffee grinder", "language": "en"}.'),
        )
    _require_storable(document)
    try:
        config = RunConfig.model_validate(document)
    except ValidationError as error:
        raise InvalidRunConfig(
            _("The run's configuration is invalid: %(problem)s.") % {"problem": first_problem(error)}
        ) from error
    for name in config.__pydantic_extra__:
        _require_input_name(name)
    return config


def _require_storable(document: object) -> None:
    """Reject a document that jsonb cannot store (U+0000, lone surrogates, NaN) or that is larger than the limit."""
    try:
        encoded = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRunConfig(_("The run's configuration contains a value that cannot be stored as JSON.")) from error
    if _NUL.search(encoded):
        raise InvalidRunConfig(_("The run's configuration contains a NUL character."))
    if len(encoded) > MAX_CONFIG_BYTES:
        raise InvalidRunConfig(
            _("The run's configuration is larger than %(limit)d KiB.") % {"limit": MAX_CONFIG_BYTES // 1024}
        )


def _require_input_name(name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRunConfig(
            _(
                "The run's configuration is invalid: %(name)s is not a valid input name (at most 63 lower-case letters,"
                " digits and _, starting with a letter)."
            )
            % {"name": shown(name)}
        )


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(_("a number has more than %(limit)d digits") % {"limit": MAX_DIGITS})
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(_("%(name)s is not a JSON number") % {"name": name})


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(_("the key %(name)s appears more than once in one object") % {"name": shown(twice)})
    return document
