"""The server's write-ahead log: marked and archived; and what base backups need to know of a server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

from tenants.servers.session.loading import Loading
from tenants.servers.session.rights import IDENTIFY

# What a server in recovery must have at least as much of as the server whose log it replays.
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
# Through which `seo-gen cluster receive-wal` reads the log.
RECEIVER_SLOT = "seo_gen_wal"


@dataclass(frozen=True)
class ServerFacts:
    """What base backups and recovery need to know of a server."""

    # PostgreSQL's major version.
    version: int
    system_identifier: str
    timeline: int
    # The server's time of day.
    now: datetime
    in_recovery: bool
    # Whether incremental base backups can be made.
    summarizes_wal: bool
    # Those of its own, beside PostgreSQL's two.
    tablespaces: list[str]
    # {"max_connections": 100, …}: what recovery needs at least as much of.
    limits: dict[str, int]


@dataclass(frozen=True)
class ArchiverState:
    """How the archiving of a server's log goes."""

    # Whether the server archives by itself, and whether `cluster receive-wal` is at work.
    archives: bool
    is_received: bool
    last_archived: str | None
    # The segment that could not be archived, None where the last attempt went well.
    failing: str | None
    failed_at: datetime | None


class Log(Loading):
    def facts(self) -> ServerFacts:
        """Return what base backups and recovery need to know of the server, with its time of day."""
        self.require_rights(*IDENTIFY)
        [row] = self._rows(FACTS)
        return ServerFacts(*row)

    def may_mark(self) -> bool:
        """Tell whether we may create restore points here, and they would be of use."""
        return bool(self._scalar(MAY_MARK))

    def heartbeat(self) -> tuple[str, datetime]:
        """Commit something, so that the log holds a time; return (position after it, a time not before it)."""
        self._scalar("SELECT pg_logical_emit_message(true, 'seo-gen', 'heartbeat')")
        [(lsn, moment)] = self._rows("SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()")
        return lsn, moment

    def create_restore_point(self, name: str) -> tuple[str, datetime]:
        """Name the present position of the log; return (position, time)."""
        [(lsn, moment)] = self._rows("SELECT pg_create_restore_point(%s)::text, clock_timestamp()", [name])
        return lsn, moment

    def switch_wal(self) -> str:
        """Have everything up to now archived; return the name of the segment that holds the last of it."""
        # The byte before the position, since at a boundary it is the next segment's.
        name = self._scalar("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)")
        self._scalar("SELECT pg_switch_wal()::text")
        return str(name)

    def end_segment(self) -> str:
        """As `switch_wal` does, but begin another segment only where we may."""
        name = self._scalar("SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)")
        if self._scalar("SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE')"):
            self._scalar("SELECT pg_switch_wal()::text")
        return str(name)

    def oldest_segment(self) -> str | None:
        """Return the name of the oldest segment that the server itself still has; None where we may not look."""
        if not self._scalar("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')"):
            return None
        return cast("str | None", self._scalar("SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"))

    def archiver(self) -> ArchiverState:
        """Return how the server's own archiving goes."""
        [row] = self._rows(ARCHIVER, {"slot": RECEIVER_SLOT})
        return ArchiverState(*row)
