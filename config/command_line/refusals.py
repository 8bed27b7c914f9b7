"""Report errors: message and hint for people on stderr, or one JSON document for scripts on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from config.base.errors import SeoGenError

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand

    from config.base.command import Refusal

EXIT_REFUSED = 1
# The code for errors of Django's own commands.
DJANGO_COMMAND_REFUSED = "django_command_refused"


class Refused(SeoGenError):
    """A command's error on its way to the command line.

    Not a ``CommandError``: Django would print that with its class name.
    """

    def __init__(self, message: str, *, hint: str, code: str, status: int, after_document: bool) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        # The command has already printed its document, so no second one may follow.
        self.after_document = after_document


def let_refusals_pass(command: BaseCommand) -> BaseCommand:
    """Make the command raise `Refused` for `CommandError` and `SeoGenError`; return the command.

    `SystemCheckError`, and every error with `--traceback`, is raised as it is.
    """
    from django.core.management.base import CommandError, SystemCheckError

    execute = command.execute

    def passing(*args: Any, **options: Any) -> Any:
        try:
            return execute(*args, **options)
        except SystemCheckError:  # Django prints its own report
            raise
        except (CommandError, SeoGenError) as error:
            if options.get("traceback"):
                raise
            raise Refused(
                getattr(error, "message", str(error)),
                hint=getattr(error, "hint", ""),
                code=getattr(error, "code", "") or DJANGO_COMMAND_REFUSED,
                status=getattr(error, "returncode", EXIT_REFUSED),
                after_document=getattr(command, "document_printed", False),
            ) from error

    command.execute = passing  # type: ignore[method-assign]
    return command


def refuse(error: SeoGenError | Refusal, words: Sequence[str]) -> int:
    """Print the error and return the exit status.

    It is printed as JSON on stdout if the command line has `--json` and the command has not printed its document yet,
    otherwise as text on stderr.
    """
    options = words[: words.index("--")] if "--" in words else words
    if "--json" in options and not getattr(error, "after_document", False):
        document = {"code": error.code, "message": str(error.message), "hint": str(error.hint)}
        print(json.dumps({"error": document}, ensure_ascii=False, indent=2))
    else:
        print(error, file=sys.stderr)
    return getattr(error, "status", EXIT_REFUSED)
