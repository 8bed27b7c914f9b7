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

from audit.context import acting_as
from config.commands import version
from config.errors import SeoGenError


class OperatorCommand(BaseCommand):
    """A thin command: `perform` calls one service and returns a JSON-ready document.

    With `--json` the document is printed, alone, on stdout; otherwise `present` formats it for people. A `SeoGenError`
    becomes one sentence on stderr and exit code 1; wrong usage exits 2 (argparse). Progress goes to stderr, and only
    where it is a terminal.
    """

    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    supports_json = True
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
            raise CommandError(str(error)) from error
        if options.get("json"):
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
        elif document is not None:
            self.present(document)

    def perform(self, **options: Any) -> Any:
        """Call the service; return what `--json` prints."""
        raise NotImplementedError

    def present(self, document: Any) -> None:
        """Print `document` for people, on stdout."""
        raise NotImplementedError

    def binary_stdout(self) -> IO[bytes]:
        """Return standard output for bytes, for what is written as a file is. People are told on stderr then."""
        return cast(IO[bytes], getattr(self.stdout._out, "buffer", None) or _Decoded(self.stdout._out))

    def confirm(self, tenant_id: str, consequence: str, *, confirmed: bool) -> None:
        """Have the tenant's id typed before something that destroys, unless `--confirm` was given."""
        if confirmed:
            return
        if not sys.stdin.isatty():
            raise CommandError(
                _("%(consequence)s Give --confirm to do it without being asked.") % {"consequence": consequence}
            )
        self.stderr.write(consequence)
        try:
            typed = input(_("Type %(id)s to go on: ") % {"id": tenant_id}).strip()
        except EOFError:
            typed = ""
        if typed != tenant_id:
            raise CommandError(_("Nothing was done."))


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
