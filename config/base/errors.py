"""The base class of all errors shown to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_on_page: ContextVar[bool] = ContextVar("on_page", default=False)


@contextmanager
def shown_on_page() -> Iterator[None]:
    """Give errors made in the block the hints for a page of the admin, which name its buttons instead of commands."""
    token = _on_page.set(True)
    try:
        yield
    finally:
        _on_page.reset(token)


class SeoGenError(Exception):
    """An error that an operator or staff member can act on.

    `message` is one translated sentence with the offending id; `hint`, if any, is a sentence with the next step, and
    `page_hint` is shown in the admin instead, if one of its pages offers that step. `code`
    identifies the kind of error for scripts (docs/manual/errors.md) and is set on the class or at each raise site.
    It is handled once, at the boundary: a command raises ``CommandError``, the admin shows a message, a task retries or
    fails. Anything else is a bug and crashes.
    """

    code: str = ""

    def __init__(self, message: str, *, hint: str = "", page_hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = page_hint if page_hint and _on_page.get() else hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()
