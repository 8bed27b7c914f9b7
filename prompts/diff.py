"""Compare two versions of a prompt: their templates and their variables."""

import difflib
import json
from collections.abc import Sequence
from typing import Protocol


class Versioned(Protocol):
    """A stored version, or one that is about to be stored."""

    @property
    def content(self) -> str: ...

    @property
    def variables(self) -> object: ...


def unified_diff(old: Versioned | None, new: Versioned, *, old_name: str, new_name: str) -> str:
    """Return the difference in the unified format, with three lines of context; "" if there is none.

    The variables follow the template, as JSON with a line for each declaration. `old` is None if there is no version
    to compare with.
    """
    return "".join(
        [
            _diff(old.content if old else "", new.content, f"{old_name}: template", f"{new_name}: template"),
            _diff(
                declarations_text(old.variables) if old else "",
                declarations_text(new.variables),
                f"{old_name}: variables",
                f"{new_name}: variables",
            ),
        ]
    )


def declarations_text(variables: object) -> str:
    """Return the variables as JSON, one on each line, with sorted keys; "" if there are none."""
    declared = variables if isinstance(variables, list) else []
    return "".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in declared)


def is_same(one: Versioned, other: Versioned) -> bool:
    """Return whether two versions have the same template and variables, whatever the order of the variables' keys."""
    return one.content == other.content and declarations_text(one.variables) == declarations_text(other.variables)


def _diff(old: str, new: str, old_name: str, new_name: str) -> str:
    return "".join(difflib.unified_diff(_lines(old), _lines(new), old_name, new_name))


def _lines(text: str) -> Sequence[str]:
    """Split the text at line feeds only; end each line with one, as the format requires."""
    return [f"{line}\n" for line in text.removesuffix("\n").split("\n")] if text else []
