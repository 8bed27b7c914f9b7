"""The base class of our commands: audit actor, error translation, `--json` and output streams."""

import codecs
import getpass
import io
import json
import sys
import uuid
from argparse import ArgumentTypeError
from collections.abc import Mapping
from decimal import Decimal
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from config.base.approvals import ApprovalRequired, approval_given, approval_wanted, request_approval
from config.base.commands import version
from config.base.errors import SeoGenError, joined

# What --output takes for standard output.
STANDARD_OUTPUT = "-"


class Refusal(CommandError):
    """An error raised by a command, with a message, a hint and a code for scripts (services raise `SeoGenError`)."""

    def __init__(self, message: str, *, code: str, hint: str = "", returncode: int = 1) -> None:
        super().__init__(joined(message, hint), returncode=returncode)
        self.message = message
        self.hint = hint
        self.code = code


class OperatorCommand(BaseCommand):
    """A thin command: `perform` calls one service and returns a JSON-ready document.

    With `--json`, stdout contains only the document; otherwise `present` formats it for people. A `SeoGenError` becomes
    a `Refusal` and exit code 1: a message on stderr, or with `--json` one document on stdout. Problems found after the
    document was printed always go to stderr. Wrong usage exits 2 (argparse). Progress goes to stderr, and only if that
    is a terminal; but `run show --follow` prints it on stdout.
    """

    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    supports_json = True
    # Whether it does something that may need the approval of a second person (TWO_PERSON_OPERATIONS).
    asks_second_person = False
    document_printed = False
    # Django adds these options to every command. They work with manage.py, but the usage text leaves them out.
    suppressed_base_arguments = {
        *("--version", "--verbosity", "--settings", "--pythonpath", "--traceback"),
        *("--no-color", "--force-color", "--skip-checks"),
    }

    def get_version(self) -> str:
        return f"seo-gen {version()}"

    def add_arguments(self, parser: CommandParser) -> None:
        if self.supports_json:
            parser.add_argument("--json", action="store_true", help="Print one JSON document on stdout.")
        if self.asks_second_person:
            parser.add_argument(
                "--approval", metavar="ID", type=uuid.UUID, help="The id of a second person's approval."
            )
            parser.add_argument(
                "--request-approval", metavar="REASON", help="Only request approval of exactly this command."
            )

    def handle(self, *args: Any, **options: Any) -> None:
        self.check_options(options)
        try:
            with (
                acting_as(f"operator:{operator_name()}", operation_id=str(uuid.uuid4())),
                approval_given(options.get("approval")),
            ):
                document = self._approved(options)
        except SeoGenError as error:
            raise Refusal(error.message, hint=error.hint, code=error.code) from error
        if options.get("json"):
            self.stdout.write(json.dumps(document, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
            self.document_printed = True
        elif document is not None:
            self.present(document)

    def _approved(self, options: Mapping[str, Any]) -> Any:
        """Return what `perform` returns; with --request-approval, only request the approval, and raise `Refusal`."""
        reason = options.get("request_approval")
        try:
            with approval_wanted(bool(reason)):
                return self.perform(**options)
        except ApprovalRequired as error:
            if not reason:
                raise
            approval_id = request_approval(error, reason)
            raise Refusal(
                _("Approval %(id)s was requested. Nothing else was done.") % {"id": approval_id},
                hint=_(
                    "Once another person has approved it in the admin, run the command with --approval %(id)s instead"
                    " of --request-approval."
                )
                % {"id": approval_id},
                code="approval_requested",
            ) from error

    def perform(self, **options: Any) -> Any:
        """Call the service; return the document that `--json` prints."""
        raise NotImplementedError

    def present(self, document: Any) -> None:
        """Print `document` for people, on stdout."""
        raise NotImplementedError

    def needs_second_person(self, options: Mapping[str, Any]) -> bool:
        """Return whether the command, with these options, may need the approval of a second person."""
        return self.asks_second_person

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `Refusal` for options that contradict each other.

        `handle` calls this; the command line may call it before any server starts. So it may read only the options.
        """
        if options.get("approval") and options.get("request_approval"):
            raise Refusal(
                _("--approval and --request-approval cannot be used together."),
                hint=_("Pass --approval to use an approval, or --request-approval to request one."),
                code="options_conflict",
            )
        if (options.get("approval") or options.get("request_approval")) and not self.needs_second_person(options):
            raise Refusal(
                _("With these options, the command needs no approval."),
                hint=_("Leave out --approval and --request-approval."),
                code="options_conflict",
            )
        if options.get("json") and options.get("output") == STANDARD_OUTPUT:
            raise Refusal(
                _("--json and --output - both write to standard output."),
                hint=_("Write to a file, or leave out --json."),
                code="options_conflict",
            )

    def binary_stdout(self, *, is_text: bool = False) -> IO[bytes]:
        """Return standard output as a binary stream, for `--output -`; messages for people must then go to stderr.

        Raises `Refusal` if binary data would go to a terminal.
        """
        if not is_text and self.stdout.isatty():
            raise Refusal(
                _("--output - writes binary data, and standard output is a terminal."),
                hint=_("Redirect standard output to a file or a pipe."),
                code="standard_output_not_text",
            )
        return cast(IO[bytes], getattr(self.stdout._out, "buffer", None) or _Decoded(self.stdout._out))

    def confirm(self, tenant_id: str, consequence: str, *, confirmed: bool, can_be_undone: bool = False) -> None:
        """Require typing the tenant's id before a destructive command, unless `--confirm` was given.

        Raises `Refusal` if another text is typed. Without a terminal the command cannot ask: it raises `Refusal`,
        unless the operation can be undone.
        """
        if confirmed:
            return
        if sys.stdin is None or not sys.stdin.isatty():
            if can_be_undone:
                return
            raise Refusal(
                consequence,
                hint=_("Pass --confirm to continue without being asked."),
                code="confirmation_missing",
            )
        self.stderr.write(consequence)
        # Not as the prompt of `input`: that goes to standard output, which may be a file or a pipe.
        self.stderr.write(_("Type %(id)s to continue: ") % {"id": tenant_id}, str, ending="")
        self.stderr.flush()
        try:
            typed = input().strip()
        except EOFError:
            typed = ""
        if typed != tenant_id:
            raise Refusal(
                _("You did not type %(id)s. Nothing was done.") % {"id": tenant_id}, code="confirmation_wrong"
            )


class _Decoded(io.RawIOBase):
    """A binary stream on top of the text stream that tests and other programs use as standard output."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)


def usd_amount(text: str) -> Decimal:
    """Return an option's amount in US dollars; the service decides whether the amount is allowed.

    Raises `ArgumentTypeError` if the text is not a finite decimal number.
    """
    try:
        amount = Decimal(text)
    except ArithmeticError:
        amount = Decimal("nan")
    # Decimal also reads other scripts' digits and grouping underscores.
    if not amount.is_finite() or not text.isascii() or "_" in text:
        raise ArgumentTypeError(_("%(text)r is not an amount in USD such as 49.50") % {"text": text[:80]})
    return amount


def operator_name() -> str:
    """Return the operator's login name (LOGNAME, USER, … or the user id's name); "unknown" if there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return "unknown"
