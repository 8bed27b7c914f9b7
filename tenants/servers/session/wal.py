"""The server's write-ahead log (WAL): restore points, archiving, and the facts that base backups need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

from tenants.servers.session.loading import Loading
from tenants.servers.session.rights import IDENTIFY

# A server in recovery needs limits at least as high as those of the server whose WAL it replays.
FACTS: LiteralString = """
SELECT current_setting('server_version_num')::int / 10000,
       (SELECT system_identifier::text FROM pg_control_system()),
       (SELECT timeline_id FROM pg_control_checkpoint()),
       clock_timestamp(),
       pg_is_in_recovery(),
       coalesce(current_setting('summarize_wal', true), 'off') = 'on',
       ARRAY(SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
       (SELECT jsonb_object_agg(name, setting::int) FROM pg_settings
         WHERE name IN ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions',
                        'max_locks_per_transaction'))
"""
MAY_MARK: LiteralString = """
SELECT NOT pg_is_in_recovery()
   AND current_setting('wal_level') <> 'minimal'
   AND has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')
"""
ARCHIVER: LiteralString = """
SELECT current_setting('archive_mode') <> 'off',
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s AND active),
       last_archived_wal,
       CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity') THEN last_failed_wal END,
       last_failed_time
  FROM pg_stat_archiver
"""
# The replication slot from which `seo-gen cluster receive-wal` reads the WAL.
RECEIVER_SLOT = "seo_gen_wal"


@dataclass(frozen=True)
class ServerFacts:
    """What base backups and recovery need to know about a server."""

    # PostgreSQL's major version.
    version: int
    system_identifier: str
    timeline: int
    # By the server's clock.
    now: datetime
    in_recovery: bool
    # Whether incremental base backups can be made.
    summarizes_wal: bool
    # All except PostgreSQL's own two.
    tablespaces: list[str]
    # {"max_connections": 100, …}: the minimum for a server that recovers from its WAL.
    limits: dict[str, int]


@dataclass(frozen=True)
class ArchiverState:
    """The state of a server's WAL archiving."""

    # Whether the server archives its WAL itself, and whether `cluster receive-wal` is running.
    archives: bool
    is_received: bool
    last_archived: str | None
    # The segment that could not be archived; None if the last attempt succeeded.
    failing: str | None
    failed_at: datetime | None


class Log(Loading):
    def facts(self) -> ServerFacts:
        """Return what base backups and recovery need to know about the server, including its clock."""
        self.require_rights(*IDENTIFY)
        [row] = self._rows(FACTS)
        return ServerFacts(*row)

    def may_mark(self) -> bool:
        """Return whether we can create restore points: the server's state allows it, and we have the right to."""
        return bool(self._scalar(MAY_MARK))

    def heartbeat(self) -> tuple[str, datetime]:
        """Commit something, so that the WAL contains a time; return (position after it, a time not before it)."""
        self._scalar("SELECT pg_logical_emit_message(true, 'seo-gen', 'heartbeat')")
        [(lsn, moment)] = self._rows("SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()")
        return lsn, moment

    def create_restore_point(self, name: str) -> tuple[str, datetime]:
        """Name the current position in the WAL; return (position, time)."""
        [(lsn, moment)] = self._rows("SELECT pg_create_restore_point(%s)::text, clock_timestamp()", [name])
        return lsn, moment

    def switch_wal(self) -> str:
        """Have the server archive all WAL written so far; return the name of the last segment that this includes."""
        # One byte back, since at a boundary the position already belongs to the next segment.
        name = self._scalar("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)")
        self._scalar("SELECT pg_switch_wal()::text")
        return str(name)

    def end_segment(self) -> str:
        """Like `switch_wal`, but start a new segment only if we have the right to."""
        name = self._scalar("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)")
        if self._scalar("SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE')"):
            self._scalar("SELECT pg_switch_wal()::text")
        return str(name)

    def oldest_segment(self) -> str | None:
        """Return the name of the oldest segment still on the server; None if we are not allowed to list them."""
        if not self._scalar("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')"):
            return None
        return cast("str | None", self._scalar("SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"))

    def archiver(self) -> ArchiverState:
        """Return the state of the server's WAL archiving."""
        [row] = self._rows(ARCHIVER, {"slot": RECEIVER_SLOT})
        return ArchiverState(*row)
