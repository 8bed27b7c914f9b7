"""Frozen values: declarations of a template's variables, how versions were used, and past runs."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

# Valid names of steps, and so of the variables that hold their output.
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
Name: TypeAlias = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
VariableType: TypeAlias = Literal["string", "integer", "boolean", "list"]

_PYTHON_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "list": list}


class PromptVariable(BaseModel):
    """One name that a template may use.

    An optional variable without a default is `None` if it is given no value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    type: VariableType
    required: bool = False
    default: JsonValue = None
    description: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _default_fits(self) -> "PromptVariable":
        if self.default is not None and self.required:
            raise ValueError(_("has a default although it is required"))
        if self.default is not None and not self.accepts(self.default):
            raise ValueError(_("has a default that is not of type %(type)s") % {"type": self.type})
        return self

    def accepts(self, value: object) -> bool:
        """Return whether `value` has the declared type (True is not an integer)."""
        if isinstance(value, bool):
            return self.type == "boolean"
        return isinstance(value, _PYTHON_TYPES[self.type])


@dataclass(frozen=True)
class VersionUsage:
    """How a version's steps ended, and their mean tokens and cost; a mean is None if there are no values."""

    # Steps that have begun with this version, and how many of them have ended each way.
    used: int
    completed: int
    failed: int
    # Per step that used tokens.
    mean_input_tokens: int | None
    mean_output_tokens: int | None
    # US dollars per step that used tokens at known prices, and how many steps used tokens at unknown prices.
    mean_cost: Decimal | None
    unpriced: int

    @property
    def failure_rate(self) -> float | None:
        """The share of the ended steps that failed, from 0 to 1; None if no step has ended."""
        ended = self.completed + self.failed
        return self.failed / ended if ended else None


UNUSED = VersionUsage(0, 0, 0, None, None, None, 0)


@dataclass(frozen=True)
class PastRun:
    """A run whose values a prompt can be tried with."""

    id: str
    # Its keyword and time, for people.
    label: str
