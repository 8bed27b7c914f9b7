"""Put the values in an audit entry's details into sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.utils.translation import gettext as _

# Finds a field's name in words.
Label = Callable[[str], str]
# Returns a field's value as people read it.
Words = Callable[[str, object], object]


def as_held(field: str, value: object) -> object:
    return value


def sentences(details: object, *, resource_id: str, label: Label, words: Words = as_held) -> list[str]:
    """Return a sentence for each changed value in the details, and each non-empty one of a removed object; [] if none.

    `label` returns a field's name in words; `words` returns a field's value as people read it.
    """
    if not isinstance(details, dict):
        return []
    name = str(details.get("name") or details.get("model") or resource_id)
    found = [
        _sentence(label(field), name, words(field, old), words(field, new)) for field, old, new in _changes(details)
    ]
    values = details.get("values")
    if isinstance(values, dict):
        found += [
            _("%(field)s of %(name)s: %(value)s.")
            % {"field": label(field), "name": name, "value": in_words(words(field, value))}
            for field, value in values.items()
            if value not in (None, "", [])
        ]
    return found


def in_words(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return ", ".join(in_words(one) for one in value) or _("nothing")
    if isinstance(value, dict):
        return ", ".join(f"{key}: {in_words(one)}" for key, one in value.items())
    return _("nothing") if value in (None, "") else str(value)


def _changes(details: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    changed = details.get("changes")
    for field, pair in sorted(changed.items()) if isinstance(changed, dict) else ():
        if isinstance(pair, list) and len(pair) == 2:
            yield field, pair[0], pair[1]
    # Entries of services, and those written before there was `changes`.
    if {"from", "to"} <= details.keys():
        yield from _differing(details["from"], details["to"])
    if isinstance(details.get("old"), dict) and isinstance(details.get("new"), dict):
        yield from ((f"{unit} price", old, new) for unit, old, new in _differing(details["old"], details["new"]))
    for field, pair in details.items():
        if isinstance(pair, dict) and pair.keys() == {"from", "to"}:
            yield field, pair["from"], pair["to"]


def _differing(old: object, new: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield name, old.get(name), new.get(name)
    else:
        yield "value", old, new


def _sentence(field: str, name: str, old: object, new: object) -> str:
    values = {"field": field, "name": name, "old": in_words(old), "new": in_words(new)}
    if old in (None, "", []):
        return _("%(field)s of %(name)s set to %(new)s.") % values
    if new in (None, "", []):
        return _("%(field)s of %(name)s removed (before: %(old)s).") % values
    return _("%(field)s of %(name)s changed from %(old)s to %(new)s.") % values
