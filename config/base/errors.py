"""The root of every error that a person is told about."""


class SeoGenError(Exception):
    """A refusal or failure that an operator or a staff member can act on.

    `message` is one translated sentence that holds the offending id; `hint`, if any, is one with the next step. `code`
    names the kind of refusal for scripts (docs/manual/errors.md): a class has one, or each of its raise sites does.
    Boundaries translate it once: a command to ``CommandError``, the admin to a message, a task to retry or failure.
    Anything that is not a `SeoGenError` is a defect and crashes.
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
