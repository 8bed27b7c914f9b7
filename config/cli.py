"""``seo-gen <noun> <verb>``: run our management commands, start the servers they need, and report their errors."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING

from config.base.commands import our_commands, spoken, summary_of, version
from config.base.errors import SeoGenError
from config.command_line import web_apps
from config.command_line.refusals import EXIT_REFUSED, let_refusals_pass, refuse
from config.command_line.usage import NO_SUCH_COMMAND, UNDERSTOOD, check_usage

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand

# Commands that need no server; commands with the prefix below need none either.
WITHOUT_SERVERS = (
    *("check", "collectstatic", "compilemessages", "completion", "findstatic", "help", "makemessages", "version"),
)
WITHOUT_SERVERS_PREFIX = "stack_"
# Commands that work on the migrations, so they must run before the control database has its tables.
WITHOUT_CONTROL_DATABASE = ("control_setup", "makemigrations", "migrate", "showmigrations", "sqlmigrate")
# Commands that migrate the admin's tables too, or run any other command.
WITH_WEB_APPS = ("control_setup", "tenant_command")
# Full or read-only disks and missing permissions, which the operator has to fix.
SURROUNDINGS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)
HELP = ("-h", "--help", "help")
VERSION = "--version"
# SQLSTATE, PostgreSQL manual, appendix A.
UNDEFINED_TABLE = "42P01"
READ_ONLY_TRANSACTION = "25006"
EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `seo-gen` with these arguments, or those of the process, and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Loaded modules stay in memory: collecting garbage among them takes a quarter of a short command's time.
    gc.disable()
    return _guarded(lambda: _run_ours(words), words)


def manage(argv: Sequence[str]) -> int:
    """Run `manage.py`, Django's command line, with our servers and error reports; return the exit status."""
    words = list(argv[1:])

    def run() -> int:
        from django.core.management import ManagementUtility

        class Utility(ManagementUtility):
            def fetch_command(self, subcommand: str) -> BaseCommand:
                return let_refusals_pass(super().fetch_command(subcommand))

        name = words[0] if words else "help"
        refused = _prepare(name, words[1:], [argv[0], name])
        if refused:
            return refused
        Utility(list(argv)).execute()
        return 0

    return _guarded(run, words)


def _guarded(run: Callable[[], int], words: Sequence[str]) -> int:
    """Call `run`, and return the exit status.

    An expected failure is reported without a traceback, unless `--traceback` is given.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if "--traceback" in words:
        with _surroundings(words):
            return run()
    try:
        with _surroundings(words):
            return run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has exited; prevent another broken pipe when Python flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_REFUSED
    except SeoGenError as error:
        return refuse(error, words)
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            raise
        return refuse(expected, words)


def _surroundings(words: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context manager that stops the servers that `demo` starts; for other commands, it does nothing."""
    if words[:1] != ["demo"] or set(words) & set(HELP):
        return nullcontext()
    # Imported here: it loads the code that starts servers, which help and usage errors do not need.
    from config import prepare

    return prepare.temporary_stack()


def _run_ours(words: list[str]) -> int:
    ours = our_commands()
    if not words or words[0] in HELP:
        _print_commands(ours)
        return 0 if words else EXIT_USAGE
    if words[0] == VERSION:
        print(f"seo-gen {version()}")
        return 0
    name, used = _resolve(words, ours)
    if name:
        return _execute(name, words[:used], words[used:])
    of_noun = {command: app for command, app in ours.items() if command.startswith(f"{words[0]}_")}
    if of_noun and (len(words) == 1 or words[1] in HELP):
        _print_commands(of_noun)
        return 0 if len(words) > 1 else EXIT_USAGE
    return _unknown(words, of_noun)


def _resolve(words: list[str], ours: Mapping[str, str]) -> tuple[str, int]:
    """Return the command that the words begin with and how many words name it; ("", 0) if there is none."""
    for used in (2, 1):
        name = "_".join(words[:used]).replace("-", "_")
        if len(words) >= used and name in ours:
            return name, used
    return "", 0


def _execute(name: str, typed: list[str], arguments: list[str]) -> int:
    if name not in WITH_WEB_APPS:
        web_apps.leave_out()
    refused = _prepare(name, arguments, ["seo-gen", *typed])
    if refused:
        return refused
    from django.core.management import load_command_class

    command = let_refusals_pass(load_command_class(our_commands()[name], name))
    gc.freeze()
    gc.enable()
    # Pass the command as typed, so that usage messages can be copied.
    command.run_from_argv(["seo-gen", " ".join(typed), *arguments])
    return 0


def _prepare(name: str, arguments: Sequence[str], typed: Sequence[str]) -> int:
    """Load Django; if the command needs servers, start them first.

    Then set up the control database, unless the command works on the migrations.

    Return 0, or the exit status for wrong usage that was reported before any server was started.
    """
    needs_servers = name not in WITHOUT_SERVERS and not name.startswith((WITHOUT_SERVERS_PREFIX, "-"))
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if needs_servers and not set(options) & set(HELP):
        from config import prepare

        usage = UNDERSTOOD if prepare.is_prepared() else check_usage(name, typed, arguments)
        if usage == NO_SUCH_COMMAND:
            _load_django()
            return 0
        if usage != UNDERSTOOD:
            return usage
        prepare.servers()
        _load_django()
        if name not in WITHOUT_CONTROL_DATABASE:
            prepare.control_database()
    _load_django()
    return 0


def _load_django() -> None:
    import django

    django.setup()


def _print_commands(commands: Mapping[str, str]) -> None:
    print("seo-gen NOUN VERB [OPTIONS]      seo-gen NOUN VERB --help")
    width = max(map(len, commands), default=0)
    for _noun, group in groupby(sorted(commands), key=lambda name: name.split("_")[0]):
        print()
        for name in group:
            print(f"  {spoken(name):{width}}  {summary_of(name, commands[name])}")


def _unknown(words: list[str], of_noun: Mapping[str, str]) -> int:
    if of_noun:
        verbs = ", ".join(spoken(name).split(" ", 1)[1] for name in sorted(of_noun))
        known = _('Commands of "%(noun)s": %(verbs)s.') % {"noun": words[0], "verbs": verbs}
    else:
        known = _("See seo-gen --help.")
    unknown = _('There is no command "%(command)s".') % {"command": " ".join(words[:2])}
    print(f"{unknown} {known}", file=sys.stderr)
    return EXIT_USAGE


def _expected(error: Exception) -> SeoGenError | None:
    """Return the error to report if the environment is the cause; None if the error is a bug."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import InternalError, OperationalError, ProgrammingError

    from tenants.errors import DatabaseUnusable

    reason = without_credentials(str(error).strip().partition("\n")[0])
    if isinstance(error, OperationalError):
        return DatabaseUnusable(reason)
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    if isinstance(error, InternalError) and sqlstate == READ_ONLY_TRANSACTION:
        return _read_only(reason)
    if isinstance(error, ProgrammingError) and sqlstate == UNDEFINED_TABLE:
        return _table_missing(reason)
    if isinstance(error, ImproperlyConfigured):
        return SeoGenError(
            _("The configuration is invalid: %(reason)s") % {"reason": reason}, code="configuration_invalid"
        )
    if isinstance(error, OSError) and error.errno in SURROUNDINGS:
        # A write to a full disk does not name its file.
        message = (
            _("%(path)s cannot be used: %(reason)s.")
            if error.filename
            else _("The disk or a file cannot be used: %(reason)s.")
        )
        return SeoGenError(message % {"path": error.filename, "reason": error.strerror}, code="file_unusable")
    return None


def _table_missing(reason: str) -> SeoGenError:
    """Return the error to report for a missing table: a tenant's, if the control database has all of its own."""
    from django.db import DatabaseError, connection

    try:
        # The failed transaction may still be open.
        connection.close()
        tables = connection.introspection
        is_complete = not set(tables.django_table_names()) - set(tables.table_names())
    except DatabaseError:
        is_complete = False
    if is_complete:
        return SeoGenError(
            _("A table is missing from a tenant's database: %(reason)s.") % {"reason": reason},
            hint=_("`seo-gen tenant status --check` shows which database differs from the current schema."),
            code="tenant_table_missing",
        )
    return SeoGenError(
        _("The control database is not set up for this release: %(reason)s.") % {"reason": reason},
        hint=_("Run `seo-gen control setup`."),
        code="control_database_not_set_up",
    )


def _read_only(reason: str) -> SeoGenError:
    """Return the error to report for a read-only database; it names the control database if that is known to be it."""
    from django.db import DatabaseError, connection

    try:
        # The failed transaction may still be open.
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')")
            is_standby, read_only = cursor.fetchone()
    except DatabaseError:
        is_standby, read_only = False, "off"
    if is_standby:
        return SeoGenError(
            _("The control database is read-only: its server is a standby."),
            hint=_("Point DATABASE_URL to the primary."),
            code="control_database_read_only",
        )
    if read_only == "on":
        return SeoGenError(
            _(
                "The control database is read-only: PGOPTIONS, its URL, its role, the database itself or its server"
                " sets default_transaction_read_only."
            ),
            hint=_("Turn that setting off, or point DATABASE_URL to the primary."),
            code="control_database_read_only",
        )
    return SeoGenError(
        _("A database is read-only; its server may be a standby: %(reason)s.") % {"reason": reason},
        code="database_read_only",
    )


def without_credentials(text: str) -> str:
    """Return the text with the user name and password masked in every URL."""
    return re.sub(r"(?<=://)[^\s/]*@", "***@", text)


def _(text: str) -> str:
    """Translate the text; return it untranslated if the settings cannot be loaded."""
    from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
    from django.utils.translation import gettext

    try:
        return gettext(text)
    except (AppRegistryNotReady, ImproperlyConfigured):
        return text
