"""Wait for a scratch server to arrive at its target: hand it its log, and say why where it does not arrive."""

from __future__ import annotations

import re
import time

from django.utils.translation import gettext as _

from tenants.cluster import Cluster
from tenants.errors import ServerError
from tenants.models import DatabaseServer, database_prefix
from tenants.places import Place, place_at
from tenants.scratch_server import RecoveryError, ScratchServer
from tenants.types import Target
from tenants.wal_archive import NAME, fetch

PAUSE_WAIT_S = 60.0
STEP_S = 0.02
# What the server says in its log.
PAUSED = "pausing at the end of recovery"
PROMOTED = ("selected new timeline ID", "archive recovery complete")
INSUFFICIENT = "insufficient parameter settings"
TOO_LOW = re.compile(r"(\w+) = \d+ is a lower setting than on the primary server, where its value was (\d+)")
LAST_COMMIT = re.compile(r"last completed transaction was at log time (.+)")


def wait_until_paused(
    scratch: ScratchServer, recovered: DatabaseServer, server: DatabaseServer, target: Target, version: int
) -> None:
    """Hand the server its log until it has arrived at the target. Raises `RecoveryError` where it never will."""
    place = None if server.wal_restore_command else place_at(server.wal_archive)
    said: list[str] = []
    while not _tells(said, PAUSED):
        if place is not None:
            _serve(scratch, place)
        running, said = scratch.is_running(), scratch.said()
        raised = _raised(said)
        if raised:
            scratch.restart(version, raised)
            said = []
        elif not running or _tells(said, *PROMOTED, INSUFFICIENT):
            raise _unreachable(scratch, server, target)
        time.sleep(STEP_S)
    deadline = time.monotonic() + PAUSE_WAIT_S
    while not _is_paused(recovered):
        if not scratch.is_running() or time.monotonic() > deadline:
            raise _unreachable(scratch, server, target)
        time.sleep(STEP_S)


def end_recovery(scratch: ScratchServer, recovered: DatabaseServer, server: DatabaseServer, target: Target) -> None:
    """Roll back what was under way at the target; it would keep its locks as long as the server waits for its end.

    The moment before a DROP or TRUNCATE was committed is what people go back to, and there its lock is held already:
    a dump would wait for ever. To end its recovery the server asks for the histories of later timelines.
    """
    place = None if server.wal_restore_command else place_at(server.wal_archive)
    with Cluster(recovered, database_prefix()) as cluster:
        cluster.promote()
        deadline = time.monotonic() + PAUSE_WAIT_S
        while cluster.is_in_recovery():
            if place is not None:
                _serve(scratch, place)
            if not scratch.is_running() or time.monotonic() > deadline:
                raise _unreachable(scratch, server, target)
            time.sleep(STEP_S)
        cluster.roll_back_prepared()


def _raised(said: list[str]) -> dict[str, str]:
    """Return what must be larger than it was in the base backup: it was raised on the original afterwards."""
    if not _tells(said, INSUFFICIENT):
        return {}
    return {found[1]: found[2] for line in said if (found := TOO_LOW.search(line))}


def _is_paused(recovered: DatabaseServer) -> bool:
    """Ask the server itself. It says that it pauses a moment before it does, and before it lets anybody in."""
    try:
        with Cluster(recovered, database_prefix()) as cluster:
            return cluster.is_paused_in_recovery()
    except ServerError:
        return False


def _serve(scratch: ScratchServer, place: Place) -> None:
    """Fetch what the server asks for."""
    for request in (scratch.folder / "wanted").iterdir():
        name = request.name
        request.unlink()
        if not fetch(place, name, scratch.folder / "fetched" / name):
            (scratch.folder / "missing" / name).touch()


def _unreachable(scratch: ScratchServer, server: DatabaseServer, target: Target) -> RecoveryError:
    """Say in one sentence why the target was not reached."""
    said = scratch.said()
    values = {"name": server.name, "target": target, "reason": _reason(said)}
    if _tells(said, *PROMOTED) or _tells(said, INSUFFICIENT):
        sentence = _("Database server %(name)s cannot be recovered to %(target)s and held there: %(reason)s.")
        return RecoveryError(sentence % values)
    last = next((found[1] for line in reversed(said) if (found := LAST_COMMIT.search(line))), _("none"))
    values |= {"last": last, "missing": _first_missing(scratch)}
    if values["missing"]:
        return RecoveryError(
            _(
                "Database server %(name)s cannot be recovered to %(target)s: segment %(missing)s is missing in the"
                " archive of its log, and the last commit before it is of %(last)s."
            )
            % values,
            hint=_("`seo-gen cluster status` shows which times can be reached."),
        )
    return RecoveryError(_("Database server %(name)s cannot be recovered to %(target)s: %(reason)s.") % values)


def _first_missing(scratch: ScratchServer) -> str:
    """Return the first segment that the archive did not have, nor the base backup; "" where none was missing."""
    missing = sorted(path.name for path in (scratch.folder / "missing").iterdir() if NAME.fullmatch(path.name))
    return next((name for name in missing if not (scratch.data / "pg_wal" / name).exists()), "")


def _reason(said: list[str]) -> str:
    """Return PostgreSQL's own words: what ended it, or the last that it said."""
    telling = [line for line in said if re.match(r"(FATAL|PANIC|WARNING):", line)] or said[-1:]
    return re.sub(r"^\w+:\s+", "", telling[0]).rstrip(".") if telling else _("it left no message")


def require_files(
    scratch: ScratchServer, recovered: DatabaseServer, server: DatabaseServer, target: Target, database: str
) -> None:
    """Refuse a moment at which the database's files were gone, though its DROP DATABASE was not committed yet."""
    with Cluster(recovered, database_prefix()) as cluster:
        oid = cluster.database_oid(database)
    if oid is None:
        raise RecoveryError(
            _("At %(target)s there was no database %(database)s on database server %(name)s.")
            % {"target": target, "database": database, "name": server.name}
        )
    if not (scratch.data / "base" / str(oid) / "PG_VERSION").exists():
        raise RecoveryError(
            _("At %(target)s the database %(database)s was being dropped, and its files were gone already.")
            % {"target": target, "database": database},
            hint=_("Choose an earlier time, or the restore point that was made before."),
        )


def _tells(said: list[str], *phrases: str) -> bool:
    return any(phrase in line for line in said for phrase in phrases)
