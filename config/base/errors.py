"""The base class of all errors shown to people."""


class SeoGenError(Exception):
    """An error that an operator or staff member can act on.

    `message` is one translated sentence with the offending id; `hint`, if any, is a sentence with the next step. `code`
    identifies the kind of error for scripts (docs/manual/errors.md) and is set on the class or at each raise site.
    It is handled once, at the boundary: a command raises ``CommandError``, the admin shows a message, a task retries or
    fails. Anything else is a bug and crashes.
    """

    code: str = ""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()
