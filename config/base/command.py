"""What every command of ours shares: who acts, error translation, `--json`, and where output goes."""

import codecs
import getpass
import io
import json
import sys
import uuid
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from config.base.commands import version
from config.base.errors import SeoGenError


class Refusal(CommandError):
    """A command's refusal, as a `SeoGenError` is a service's: a sentence, a hint, and a code for scripts."""

    def __init__(self, message: str, *, code: str, hint: str = "", returncode: int = 1) -> None:
        super().__init__(f"{message} {hint}".rstrip(), returncode=returncode)
        self.message = message
        self.hint = hint
        self.code = code


class OperatorCommand(BaseCommand):
    """A thin command: `perform` calls one service and returns a JSON-ready document.

    With `--json` the document is printed, alone, on stdout; otherwise `present` formats it for people. A `SeoGenError`
    becomes a `Refusal` and exit code 1: one sentence on stderr, or with `--json` one document on stdout. What is found
    to be wrong after the document was printed is told on stderr in either case. Wrong usage exits 2 (argparse).
    Progress goes to stderr, and only where it is a terminal.
    """

    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    supports_json = True
    document_printed = False
    # Django gives these to every command. They work, for those who use manage.py, and are not in the usage text.
    suppressed_base_arguments = {
        *("--version", "--verbosity", "--settings", "--pythonpath", "--traceback"),
        *("--no-color", "--force-color", "--skip-checks"),
    }

    def get_version(self) -> str:
        return f"seo-gen {version()}"

    def add_arguments(self, parser: CommandParser) -> None:
        if self.supports_json:
            parser.add_argument("--json", action="store_true", help="Print one JSON document on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with acting_as(f"operator:{operator_name()}", operation_id=str(uuid.uuid4())):
                document = self.perform(**options)
        except SeoGenError as error:
            raise Refusal(error.message, hint=error.hint, code=error.code) from error
        if options.get("json"):
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
            self.document_printed = True
        elif document is not None:
            self.present(document)

    def perform(self, **options: Any) -> Any:
        """Call the service; return what `--json` prints."""
        raise NotImplementedError

    def present(self, document: Any) -> None:
        """Print `document` for people, on stdout."""
        raise NotImplementedError

    def binary_stdout(self, *, json: bool = False, is_text: bool = False) -> IO[bytes]:
        """Return standard output for bytes, for what is written as a file is. People are told on stderr then.

        Refused with `--json`, whose document goes there too, and for what is not text at a terminal.
        """
        if json:
            raise Refusal(
                _("--json and --output - both write to standard output."),
                hint=_("Name a file, or leave --json out."),
                code="options_conflict",
            )
        if not is_text and self.stdout.isatty():
            raise Refusal(
                _("What --output - writes is not text."),
                hint=_("Send standard output to a file or a pipe, not to a terminal."),
                code="standard_output_not_text",
            )
        return cast(IO[bytes], getattr(self.stdout._out, "buffer", None) or _Decoded(self.stdout._out))

    def confirm(self, tenant_id: str, consequence: str, *, confirmed: bool, can_be_undone: bool = False) -> None:
        """Require typing the tenant's id before a destructive command, unless `--confirm` was given.

        Without a terminal nobody can be asked: the command is refused, unless what it does can be undone.
        """
        if confirmed:
            return
        if sys.stdin is None or not sys.stdin.isatty():
            if can_be_undone:
                return
            raise Refusal(
                consequence,
                hint=_("Give --confirm to do it without being asked."),
                code="confirmation_missing",
            )
        self.stderr.write(consequence)
        # Not as the prompt of `input`, which goes to standard output, and with it into the file or pipe that it is.
        self.stderr.write(_("Type %(id)s to go on: ") % {"id": tenant_id}, str, ending="")
        self.stderr.flush()
        try:
            typed = input().strip()
        except EOFError:
            typed = ""
        if typed != tenant_id:
            raise Refusal(_("Nothing was done."), code="confirmation_wrong")


class _Decoded(io.RawIOBase):
    """Bytes for a stream of text, which tests and other programs put in the place of standard output."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)


def operator_name() -> str:
    """Return the operating system's name for whoever runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "unknown"
