"""How a refusal is told: one sentence for people on stderr, one JSON document for scripts on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from config.base.errors import SeoGenError

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand

EXIT_REFUSED = 1
# What Django's own commands refuse has no code of ours.
DJANGO_COMMAND_REFUSED = "django_command_refused"


class Refused(SeoGenError):
    """A command's refusal on its way to the command line.

    Not a ``CommandError``, which Django would print with the name of its class in front.
    """

    def __init__(self, message: str, *, hint: str, code: str, status: int, after_document: bool) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        # The command has printed its own document already, so that no second one may follow.
        self.after_document = after_document


def let_refusals_pass(command: BaseCommand) -> BaseCommand:
    """Make the command raise `Refused` instead of a ``CommandError``, unless it is to show its traceback."""
    from django.core.management.base import CommandError, SystemCheckError

    execute = command.execute

    def passing(*args: Any, **options: Any) -> Any:
        try:
            return execute(*args, **options)
        except SystemCheckError:  # a report of its own
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


def refuse(error: SeoGenError, words: Sequence[str]) -> int:
    """Tell of it as the command's words want it; return the exit status."""
    options = words[: words.index("--")] if "--" in words else words
    if "--json" in options and not getattr(error, "after_document", False):
        document = {"code": error.code, "message": str(error.message), "hint": str(error.hint)}
        print(json.dumps({"error": document}, ensure_ascii=False, indent=2))
    else:
        print(error, file=sys.stderr)
    return getattr(error, "status", EXIT_REFUSED)
