"""Bring a scratch server to its target: supply its WAL and end recovery there, or explain why it cannot get there.

We cannot log in to the server, since it has the roles and passwords of the target time. We follow its progress in its
log file, and use pg_ctl and single-user mode for the rest.
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
# Phrases in the server's log. The server pauses only at its target.
PAUSED = "pausing at the end of recovery"
PROMOTED = ("selected new timeline ID", "archive recovery complete")
READY = "database system is ready to accept connections"
INSUFFICIENT = "insufficient parameter settings"
TOO_LOW = re.compile(r"(\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)")
LAST_COMMIT = re.compile(r"last completed transaction was at log time (.+)")
# Errors in single-user mode. Midway through DROP DATABASE, the files are missing or the database is marked invalid.
NO_DATABASE = re.compile(r'FATAL:  database ".*" does not exist')
BEING_DROPPED = re.compile(r"database subdirectory .* is missing|cannot connect to invalid database")


class Replay:
    """The recovery of one scratch server to one target, from the WAL that `server` archived."""

    def __init__(self, scratch: ScratchServer, server: DatabaseServer, target: Target, version: int) -> None:
        self._scratch = scratch
        self._server = server
        self._target = target
        self._place = None if server.wal_restore_command else place_at(server.wal_archive)
        self._check = LogCheck(scratch.folder / "archive", version)

    def require_harmless(self) -> None:
        """Raise `RecoveryError` if replaying the WAL in the base backup could write outside the scratch folder.

        Call this before the server starts. Raises `ToolError` if that WAL cannot be read.
        """
        self._refuse(self._check.of_folder(self._scratch.data / "pg_wal"))

    def until_paused(self) -> None:
        """Supply WAL until the server has reached the target.

        Raises `RecoveryError` if the server cannot reach it, and `PlaceError` or `ToolError` if WAL cannot be fetched
        or checked.
        """
        said: list[str] = []
        while not _contains(said, PAUSED):
            self._serve()
            running, said = self._scratch.is_running(), self._scratch.said()
            raised = _raised(said)
            if raised:
                self._scratch.restart(raised)
                said = []
            elif not running or _contains(said, *PROMOTED, INSUFFICIENT):
                raise self._unreachable()
            time.sleep(STEP_S)

    def end(self) -> None:
        """End recovery, which rolls back the transactions that were open at the target, and stop the server.

        Operators often go back to just before a DROP or TRUNCATE was committed. At that point its lock is already held:
        without the rollback, a dump would wait forever. While ending recovery, the server still requests the history
        files of later timelines, so files must be supplied until it is ready.
        """
        self._scratch.promote()
        self._until_ready()
        self._scratch.stop()

    def admit(self, database: str) -> DatabaseServer:
        """Start the stopped server so that its reader can read the database; return a `DatabaseServer` to connect with.

        Prepared transactions are rolled back first, since they keep their locks even across a restart.
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
        while not _contains(self._scratch.said(), READY):
            self._serve()
            if not self._scratch.is_running():
                raise self._unreachable()
            if time.monotonic() > deadline:
                raise RecoveryError(
                    _("The scratch server for database server %(name)s was not ready within %(seconds)g s.")
                    % {"name": self._server.name, "seconds": READY_WAIT_S},
                    code="recovery_failed",
                )
            time.sleep(STEP_S)

    def _serve(self) -> None:
        """Fetch the files that the server has requested, check the WAL segments among them, and hand them over."""
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
                    "Database server %(name)s cannot be restored to %(target)s: a tablespace was created, used or"
                    " dropped after the base backup began (%(record)s in segment %(segment)s), and replaying that could"
                    " overwrite the live server's files."
                )
                % {
                    "name": self._server.name,
                    "target": self._target,
                    "record": found.record,
                    "segment": found.segment,
                },
                hint=_("Choose an earlier time, or restore on another machine with another tool."),
                code="recovery_over_tablespace",
            )

    def _not_readable(self, database: str, said: list[str]) -> RecoveryError:
        """Return an error that explains why the database cannot be opened, such as an uncommitted DROP DATABASE."""
        values = {"target": self._target, "database": database, "name": self._server.name, "reason": _reason(said)}
        if any(BEING_DROPPED.search(line) for line in said):
            return RecoveryError(
                _("At %(target)s the database %(database)s was being dropped.") % values,
                hint=_("Choose an earlier time."),
                code="database_missing_at_time",
            )
        if any(NO_DATABASE.search(line) for line in said):
            return RecoveryError(
                _("At %(target)s the database %(database)s did not exist on database server %(name)s.") % values,
                code="database_missing_at_time",
            )
        return RecoveryError(
            _(
                "The database %(database)s on database server %(name)s cannot be read as it was at %(target)s:"
                " %(reason)s."
            )
            % values,
            code="database_unreadable_at_time",
        )

    def _unreachable(self) -> RecoveryError:
        """Return an error that says why the server did not reach the target, or did not become ready there."""
        said = self._scratch.said()
        values = {"name": self._server.name, "target": self._target, "reason": _reason(said)}
        if _contains(said, *PROMOTED) or _contains(said, INSUFFICIENT):
            sentence = _("Database server %(name)s cannot be restored to %(target)s: %(reason)s.")
            return RecoveryError(sentence % values, code="recovery_failed")
        last = next((found[1] for line in reversed(said) if (found := LAST_COMMIT.search(line))), "")
        values |= {"last": last, "missing": self._first_missing()}
        if values["missing"]:
            return RecoveryError(
                (
                    _(
                        "Database server %(name)s cannot be restored to %(target)s: segment %(missing)s is missing from"
                        " its WAL archive (last commit before it: %(last)s)."
                    )
                    if last
                    else _(
                        "Database server %(name)s cannot be restored to %(target)s: segment %(missing)s is missing from"
                        " its WAL archive."
                    )
                )
                % values,
                hint=_("`seo-gen cluster status` shows which times you can restore to."),
                code="wal_segment_missing",
            )
        return RecoveryError(
            _("Database server %(name)s cannot be restored to %(target)s: %(reason)s.") % values,
            code="recovery_failed",
        )

    def _first_missing(self) -> str:
        """Return the first requested segment that is in neither the WAL archive nor the base backup, or ""."""
        folder = self._scratch.folder / "missing"
        missing = sorted(path.name for path in folder.iterdir() if NAME.fullmatch(path.name))
        return next((name for name in missing if not (self._scratch.data / "pg_wal" / name).exists()), "")


def _raised(said: list[str]) -> dict[str, str]:
    """Return {name: value} of settings that must be higher than in the base backup, since they were raised later."""
    if not _contains(said, INSUFFICIENT):
        return {}
    return {found[1]: found[2] for line in said if (found := TOO_LOW.search(line))}


def _reason(said: list[str]) -> str:
    """Return PostgreSQL's first fatal error or warning, or else its last line; if it logged nothing, say so."""
    telling = [line for line in said if re.match(r"(FATAL|PANIC|WARNING):", line)] or said[-1:]
    return re.sub(r"^\w+:\s+", "", telling[0]).rstrip(".") if telling else _("PostgreSQL logged no message")


def _contains(said: list[str], *phrases: str) -> bool:
    return any(phrase in line for line in said for phrase in phrases)
