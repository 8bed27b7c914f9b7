"""Compare two versions of a prompt: their templates and their variables."""

import json
from typing import Protocol

from django.utils.translation import gettext as _

from config.base.line_diff import line_diff


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
    templates = line_diff(
        old.content if old else "",
        new.content,
        old_name=_("%(name)s: template") % {"name": old_name},
        new_name=_("%(name)s: template") % {"name": new_name},
    )
    variables = line_diff(
        declarations_text(old.variables) if old else "",
        declarations_text(new.variables),
        old_name=_("%(name)s: variables") % {"name": old_name},
        new_name=_("%(name)s: variables") % {"name": new_name},
    )
    return templates + variables


def declarations_text(variables: object) -> str:
    """Return the variables as JSON, one on each line, with sorted keys; "" if there are none."""
    declared = variables if isinstance(variables, list) else []
    return "".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in declared)


def is_same(one: Versioned, other: Versioned) -> bool:
    """Return whether two versions have the same template and variables, whatever the order of the variables' keys."""
    return one.content == other.content and declarations_text(one.variables) == declarations_text(other.variables)
