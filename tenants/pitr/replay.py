"""Bring a scratch server to its target: hand it its log, end its recovery there, and say why where it does not arrive.

Nothing is asked of the server itself, whose roles and passwords are those of the moment: its own log file says how far
it is, and pg_ctl and single-user mode do the rest.
"""

from __future__ import annotations

import re
import time

from django.utils.translation import gettext as _

from tenants.files.locations import place_at
from tenants.models import DatabaseServer
from tenants.pitr.restore_command import run_restore_command
from tenants.pitr.scratch_server import RecoveryError, ScratchServer, StandaloneError
from tenants.pitr.wal_archive import NAME, fetch
from tenants.pitr.wal_check import LogCheck, Tablespace
from tenants.servers.session import admit_reader, prepared_in, roll_back_prepared
from tenants.types import Target

READY_WAIT_S = 120.0
STEP_S = 0.02
# What the server says in its log. It pauses only where it has stopped at its target.
PAUSED = "pausing at the end of recovery"
PROMOTED = ("selected new timeline ID", "archive recovery complete")
READY = "database system is ready to accept connections"
INSUFFICIENT = "insufficient parameter settings"
TOO_LOW = re.compile(r"(\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)")
LAST_COMMIT = re.compile(r"last completed transaction was at log time (.+)")
# In single-user mode. In the middle of DROP DATABASE the files are gone, or the database is marked as invalid already.
NO_DATABASE = re.compile(r'FATAL:  database ".*" does not exist')
BEING_DROPPED = re.compile(r"database subdirectory .* is missing|cannot connect to invalid database")


class Replay:
    """The recovery of one scratch server to one target, of what `server` archived."""

    def __init__(self, scratch: ScratchServer, server: DatabaseServer, target: Target, version: int) -> None:
        self._scratch = scratch
        self._server = server
        self._target = target
        self._place = None if server.wal_restore_command else place_at(server.wal_archive)
        self._check = LogCheck(scratch.folder / "archive", version)

    def require_harmless(self) -> None:
        """Refuse a base backup whose own log leads out of its folder. Before the server is started."""
        self._refuse(self._check.of_folder(self._scratch.data / "pg_wal"))

    def until_paused(self) -> None:
        """Hand the server its log until it has arrived at the target. Raises `RecoveryError` where it never will."""
        said: list[str] = []
        while not _tells(said, PAUSED):
            self._serve()
            running, said = self._scratch.is_running(), self._scratch.said()
            raised = _raised(said)
            if raised:
                self._scratch.restart(raised)
                said = []
            elif not running or _tells(said, *PROMOTED, INSUFFICIENT):
                raise self._unreachable()
            time.sleep(STEP_S)

    def end(self) -> None:
        """Roll back what was under way at the target; it would keep its locks as long as the server waits for its end.

        The moment before a DROP or TRUNCATE was committed is what people go back to, and there its lock is held
        already: a dump would wait for ever. To end its recovery the server asks for the histories of later timelines.
        """
        self._scratch.promote()
        self._until_ready()
        self._scratch.stop()

    def admit(self, database: str) -> DatabaseServer:
        """Open the stopped server for reading the database, and return how it is reached.

        What is prepared in the database is rolled back, since it keeps its locks even over a restart.
        """
        try:
            answer = self._scratch.standalone(database, admit_reader(self._scratch.reader, database))
            prepared = prepared_in(answer)
            if prepared:
                self._scratch.standalone(database, roll_back_prepared(prepared))
        except StandaloneError as error:
            raise self._not_readable(database, error.said) from error
        self._scratch.start()
        self._until_ready()
        return self._scratch.as_server(self._server, database)

    def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_WAIT_S
        while not _tells(self._scratch.said(), READY):
            self._serve()
            if not self._scratch.is_running() or time.monotonic() > deadline:
                raise self._unreachable()
            time.sleep(STEP_S)

    def _serve(self) -> None:
        """Fetch what the server asks for, and hand it over when it is known to be harmless."""
        for request in (self._scratch.folder / "wanted").glob("[!.]*"):
            name, oldest = request.name, request.read_text().strip()
            request.unlink()
            fetched = self._scratch.folder / "archive" / name
            if self._place is not None:
                is_there = fetch(self._place, name, fetched)
            else:
                is_there = run_restore_command(self._server, name, oldest, fetched)
            if not is_there:
                (self._scratch.folder / "missing" / name).touch()
                continue
            if NAME.fullmatch(name):
                self._refuse(self._check.of_segment(fetched, name))
            self._scratch.hand_in(name, fetched)

    def _refuse(self, found: Tablespace | None) -> None:
        if found is not None:
            raise RecoveryError(
                _(
                    "Database server %(name)s cannot be recovered to %(target)s: a tablespace was made, used or dropped"
                    " since the base backup (%(record)s in segment %(segment)s), and replaying that could overwrite"
                    " the live server's files."
                )
                % {
                    "name": self._server.name,
                    "target": self._target,
                    "record": found.record,
                    "segment": found.segment,
                },
                hint=_("Choose a time before that, or recover on another machine with a tool of your own."),
                code="recovery_over_tablespace",
            )

    def _not_readable(self, database: str, said: list[str]) -> RecoveryError:
        """Say why a database cannot be entered, first of all that its DROP DATABASE was not committed yet."""
        values = {"target": self._target, "database": database, "name": self._server.name, "reason": _reason(said)}
        if any(BEING_DROPPED.search(line) for line in said):
            return RecoveryError(
                _("At %(target)s the database %(database)s was being dropped, and its files were gone already.")
                % values,
                hint=_("Choose an earlier time, or the restore point that was made before."),
                code="database_missing_at_time",
            )
        if any(NO_DATABASE.search(line) for line in said):
            return RecoveryError(
                _("At %(target)s there was no database %(database)s on database server %(name)s.") % values,
                code="database_missing_at_time",
            )
        return RecoveryError(
            _("The database %(database)s of database server %(name)s cannot be read as at %(target)s: %(reason)s.")
            % values,
            code="database_unreadable_at_time",
        )

    def _unreachable(self) -> RecoveryError:
        """Say in one sentence why the target was not reached."""
        said = self._scratch.said()
        values = {"name": self._server.name, "target": self._target, "reason": _reason(said)}
        if _tells(said, *PROMOTED) or _tells(said, INSUFFICIENT):
            sentence = _("Database server %(name)s cannot be recovered to %(target)s and held there: %(reason)s.")
            return RecoveryError(sentence % values, code="recovery_failed")
        last = next((found[1] for line in reversed(said) if (found := LAST_COMMIT.search(line))), _("none"))
        values |= {"last": last, "missing": self._first_missing()}
        if values["missing"]:
            return RecoveryError(
                _(
                    "Database server %(name)s cannot be recovered to %(target)s: segment %(missing)s is missing in the"
                    " archive of its log, and the last commit before it is of %(last)s."
                )
                % values,
                hint=_("`seo-gen cluster status` shows which times can be reached."),
                code="wal_segment_missing",
            )
        return RecoveryError(
            _("Database server %(name)s cannot be recovered to %(target)s: %(reason)s.") % values,
            code="recovery_failed",
        )

    def _first_missing(self) -> str:
        """Return the first segment that the archive did not have, nor the base backup; "" where none was missing."""
        folder = self._scratch.folder / "missing"
        missing = sorted(path.name for path in folder.iterdir() if NAME.fullmatch(path.name))
        return next((name for name in missing if not (self._scratch.data / "pg_wal" / name).exists()), "")


def _raised(said: list[str]) -> dict[str, str]:
    """Return what must be larger than it was in the base backup: it was raised on the original afterwards."""
    if not _tells(said, INSUFFICIENT):
        return {}
    return {found[1]: found[2] for line in said if (found := TOO_LOW.search(line))}


def _reason(said: list[str]) -> str:
    """Return PostgreSQL's own words: what ended it, or the last that it said."""
    telling = [line for line in said if re.match(r"(FATAL|PANIC|WARNING):", line)] or said[-1:]
    return re.sub(r"^\w+:\s+", "", telling[0]).rstrip(".") if telling else _("it left no message")


def _tells(said: list[str], *phrases: str) -> bool:
    return any(phrase in line for line in said for phrase in phrases)
