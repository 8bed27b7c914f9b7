"""The base class of the errors that services raise for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_on_page: ContextVar[bool] = ContextVar("on_page", default=False)


@contextmanager
def shown_on_page() -> Iterator[None]:
    """Make errors that are created in the block use their `page_hint`, which names buttons instead of commands."""
    token = _on_page.set(True)
    try:
        yield
    finally:
        _on_page.reset(token)


def joined(*sentences: str) -> str:
    """Return the sentences that are not empty as one text; no space follows a Japanese full stop."""
    text = ""
    for sentence in filter(None, sentences):
        text += sentence if not text or text.endswith("。") else f" {sentence}"
    return text


class SeoGenError(Exception):
    """An error that an operator or staff member can act on.

    `message` is a translated sentence, usually with the offending id. `hint`, if there is one, names the next step;
    `page_hint` replaces it in the admin (`shown_on_page`), if a page offers that step. `code` identifies the kind of
    error for scripts (docs/manual/errors.md) and is set on the class or at each raise site. The error is handled once,
    at the boundary: a command exits with its message, the admin shows it, a task retries or fails. Other exceptions are
    bugs, and crash.
    """

    code: str = ""

    def __init__(self, message: str, *, hint: str = "", page_hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = page_hint if page_hint and _on_page.get() else hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return joined(self.message, self.hint)
