"""The root of every error that a person is told about."""


class SeoGenError(Exception):
    """A refusal or failure that an operator or a staff member can act on.

    `message` is one translated sentence that holds the offending id; `hint`, if any, is one with the next step.
    Boundaries translate it once: a command to ``CommandError``, the admin to a message, a task to retry or failure.
    Anything that is not a `SeoGenError` is a defect and crashes.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()
