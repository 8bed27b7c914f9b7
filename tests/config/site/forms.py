"""A page's forms, filled as a browser would send them."""

from __future__ import annotations

from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from config.site.conflicts import SEEN, SEEN_ROWS

# "seen": the review that a dialog of a run decides on.
HIDDEN = (SEEN, f"form-{SEEN_ROWS}", "seen")
UNSENT = ("submit", "button", "image", "file", "reset")
Fields = dict[str, list[str]]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, Fields] = {}
        self._form: Fields | None = None
        self._select: str | None = None
        self._multiple = False
        self._options: list[tuple[str, bool]] = []
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.forms.setdefault(given.get("id", ""), {})
        if self._form is None or "disabled" in given:
            return
        name = given.get("name", "")
        if tag == "input" and name and given.get("type", "text") not in UNSENT:
            if given.get("type") not in ("checkbox", "radio"):
                self._form.setdefault(name, []).append(given.get("value", ""))
            elif "checked" in given:
                self._form.setdefault(name, []).append(given.get("value", "on"))
        elif tag == "textarea" and name:
            self._textarea = name
            self._form[name] = [""]
        elif tag == "select" and name:
            self._select, self._multiple, self._options = name, "multiple" in given, []
        elif tag == "option" and self._select:
            self._options.append((given.get("value", ""), "selected" in given))

    def handle_data(self, data: str) -> None:
        if self._textarea and self._form is not None:
            self._form[self._textarea][0] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._textarea and self._form is not None:
            # HTML drops one line break at the beginning.
            self._form[self._textarea][0] = self._form[self._textarea][0].removeprefix("\n")
            self._textarea = None
        elif tag == "select" and self._select and self._form is not None:
            chosen = [value for value, selected in self._options if selected]
            if not chosen and self._options and not self._multiple:
                chosen = [self._options[0][0]]
            self._form[self._select] = chosen
            self._select = None


def form_in(html: str, form_id: str) -> Fields:
    """Return what the form with this id would send if it were submitted unchanged."""
    parser = _Forms()
    parser.feed(html)
    return parser.forms[form_id]


def hidden_fields(html: str, names: Iterable[str]) -> dict[str, str]:
    """Return the fields among `names` that the page's forms contain, with their values."""
    parser = _Forms()
    parser.feed(html)
    sent = {name: values[0] for form in parser.forms.values() for name, values in form.items() if values}
    return {name: sent[name] for name in names if name in sent}


class Browser(Client):
    """A client that opens a form's page before it posts the form, and adds the hidden fields that say what was shown.

    It adds nothing if the test sends one of these fields.
    """

    def post(self, path: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(data, dict) and not any(name in data for name in HIDDEN) and _is_form(str(path), data):
            shown = super().get(path)
            if shown.status_code == 200 and not shown.streaming:
                data = {**hidden_fields(shown.content.decode(), HIDDEN), **data}
        return super().post(path, data, *args, **kwargs)


def _is_form(path: str, data: dict[str, Any]) -> bool:
    page = path.partition("?")[0]
    return page.endswith(("/change/", "/delete/", "/set_prices/")) or "_save" in data or "_form_submitted" in data
