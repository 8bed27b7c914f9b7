"""Old and new values in audit entries: only those of plain settings, such as names, numbers and prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from uuid import UUID

from django.db.models import Manager, Model, QuerySet

# Longer texts are not plain settings.
MAX_CHARS = 500

Changes = dict[str, list[object]]


def changes(old: Mapping[str, object], new: Mapping[str, object]) -> Changes:
    """Return `{name: [old, new]}` for the values that differ, each as `plain` returns it."""
    found: Changes = {}
    for name in sorted({*old, *new}):
        pair = [plain(old.get(name)), plain(new.get(name))]
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def plain(value: object) -> object:
    """Return a value for JSON: a row as its key, several rows as sorted names, an amount, date or UUID as text.

    Text is cut to `MAX_CHARS`, and "" becomes None. Any other value is returned unchanged.
    """
    if isinstance(value, (QuerySet, Manager)):
        value = list(value.all())
    if isinstance(value, Model):
        return str(value.pk)
    if isinstance(value, (list, tuple)) and any(isinstance(one, Model) for one in value):
        return _names(value)
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, (date, UUID)):
        return str(value)
    if isinstance(value, str):
        return value[:MAX_CHARS] or None
    return value


def _names(rows: Iterable[object]) -> list[str]:
    # A permission is known by its code; its name depends on the reader's language.
    return sorted(str(getattr(row, "codename", row)) for row in rows)
