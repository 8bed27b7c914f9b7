"""What only an administrator of a PostgreSQL server can do: roles, databases, grants. The one module with raw psycopg.

Every statement can be repeated: what is there already is left or brought to the wanted state, so that an operation that
was cut off can simply run again. Names go through `psycopg.sql.Identifier`; passwords reach the server as verifiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from django.utils.translation import gettext as _
from psycopg import sql

from audit.context import Actor
from tenants.errors import ServerError, TenantIdentityMismatch, TenantUnreachable, reason_of
from tenants.models import DatabaseServer, Tenant, database_prefix

MINIMUM_SERVER_VERSION = 140000
# `scram_iterations` can be set.
SCRAM_ITERATIONS_VERSION = 160000
CONNECT_TIMEOUT_S = 10
# Serialises the building of templates on one server. Advisory locks count per database, so it is always taken in the
# server's maintenance database.
TEMPLATE_LOCK = 0x5E06E17E

CREATE_GROUP: LiteralString = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


DOORS: LiteralString = """
SELECT d.datname,
       d.datallowconn AND d.datconnlimit <> 0,
       coalesce(role.rolcanlogin, false),
       coalesce(has_database_privilege(role.oid, d.oid, 'CONNECT'), false),
       coalesce(pg_has_role(role.oid, %(group)s, 'USAGE'), false),
       ARRAY(SELECT coalesce(nullif(item.grantee, 0::oid)::regrole::text, 'PUBLIC')
               FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS item
              WHERE item.privilege_type = 'CONNECT'
                AND item.grantee <> d.datdba AND item.grantee IS DISTINCT FROM role.oid
                AND (item.grantee = 0 OR pg_has_role(item.grantee, %(group)s, 'MEMBER')))
  FROM pg_database d
  LEFT JOIN pg_roles role ON role.rolname = d.datname
 WHERE d.datname = ANY(%(names)s)
"""


@dataclass(frozen=True)
class Door:
    """Who may enter a tenant's database."""

    # Whether anybody can connect.
    is_open: bool
    # Whether the tenant's role exists and can log in.
    has_login: bool
    may_connect: bool
    # Whether it has the group role's privileges.
    in_group: bool
    # Who else may connect: everybody (PUBLIC), or another tenant's role.
    others: list[str]


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
       last_archived_time,
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
    last_archived_at: datetime | None
    # The segment that could not be archived, None where the last attempt went well.
    failing: str | None
    failed_at: datetime | None


@dataclass(frozen=True)
class DatabaseLocation:
    """Where a database is and who connects to it; `url` holds the password, so it never reaches a message."""

    database: str
    role: str
    password: str
    url: str


def application_name(work: str) -> str:
    """Return what our sessions for `work` are called; PostgreSQL cuts names at 63 bytes."""
    return f"{database_prefix()} {work}".strip()[:63]


class Cluster:
    """An administrator's session on one server (autocommit, in the maintenance database of its admin URL).

    `work` names what it is for, such as a tenant's id, so that the sessions of a killed predecessor can be told.
    """

    def __init__(self, server: DatabaseServer, prefix: str, work: str = "") -> None:
        self.server = server
        self._application = application_name(work)
        self.owner = f"{prefix}_owner"
        self.group = f"{prefix}_tenant"
        self._connection = self._connect()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    # -- roles ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the owner and the group role. Once per server."""
        if self._connection.info.server_version < MINIMUM_SERVER_VERSION:
            raise ServerError(
                _("Database server %(name)s runs PostgreSQL %(version)d; 14 or newer is needed.")
                % {"name": self.server.name, "version": self._connection.info.server_version // 10000}
            )
        for role in (self.owner, self.group):
            self._execute(sql.SQL(CREATE_GROUP).format(role=sql.Identifier(role)))
        if not self._scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # An administrator who is no superuser must be a member of the owner to create databases for it.
            self._execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(self.owner)))

    def end_predecessors(self) -> None:
        """End what a killed process left running under the same name: its CREATE DATABASE would outlive it.

        Only the holder of the lock on that work may call this.
        """
        query = (
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE application_name = %s AND pid <> pg_backend_pid()"
        )
        self._scalar(query, self._application)

    def ensure_login(self, role: str, password: str) -> None:
        """Create the tenant's login role, or reset its password."""
        if self._connection.info.server_version >= SCRAM_ITERATIONS_VERSION:
            # Iterations slow down the guessing of passwords that people choose. Ours are 256 random bits, so they would
            # only slow down each of our own connections.
            self._connection.execute("SET scram_iterations = 1")
        encrypted = self._connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        if self.role_exists(role):
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
        else:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
        self._execute(statement.format(sql.Identifier(role), sql.Literal(encrypted), sql.Identifier(self.group)))

    def ensure_guest(self, role: str, password: str) -> None:
        """Create a login role that belongs to nothing: it may do what it likes with the database that it is given."""
        self.drop_guest(role)
        if self._connection.info.server_version >= SCRAM_ITERATIONS_VERSION:
            self._connection.execute("SET scram_iterations = 1")
        encrypted = self._connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        self._execute(statement.format(sql.Identifier(role), sql.Literal(encrypted)))
        if not self._scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            # To take from it what it owns, in the end.
            self._execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))

    def drop_guest(self, role: str) -> None:
        """Drop the role; the database that it was given must be gone, or the owner's (`hand_over`)."""
        self.drop_role(role)

    def lend(self, database: str, role: str) -> None:
        """Make `role` the owner of a database, for as long as what it does there is not trusted."""
        names = sql.Identifier(database), sql.Identifier(role)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*names))

    def hand_over(self, database: str, role: str) -> None:
        """Make what `role` owns, the database included, the owner's."""
        guest, owner = sql.Identifier(role), sql.Identifier(self.owner)
        self._end_sessions_of(role)
        try:
            with self._connect(database) as connection:
                connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(guest, owner))
                connection.execute(sql.SQL("DROP OWNED BY {}").format(guest))
        except psycopg.Error as error:
            raise self._refused(error) from error
        name = sql.Identifier(database)
        self._execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
        self._forget_grants(database)
        self._execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
        self._execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1 IS_TEMPLATE false").format(name))

    def _forget_grants(self, database: str) -> None:
        """Take the database from everybody but its owner: whoever owned it before may have let others in."""
        query = (
            "SELECT DISTINCT pg_get_userbyid(grantee) FROM pg_database, aclexplode(datacl)"
            " WHERE datname = %s AND grantee NOT IN (0, datdba)"
        )
        name = sql.Identifier(database)
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        for (role,) in self._rows(query, [database]):
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, sql.Identifier(role)))

    def _end_sessions_of(self, role: str) -> None:
        query = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = %s"
        self._scalar(query, role)

    def role_exists(self, role: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", role))

    def drop_role(self, role: str) -> None:
        if self.role_exists(role):
            self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    # -- databases -----------------------------------------------------------------------------------------------------

    def database_exists(self, name: str) -> bool:
        return bool(self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", name))

    def template_is_ready(self, name: str) -> bool:
        return bool(
            self._scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND NOT datallowconn)", name)
        )

    @contextmanager
    def template_lock(self) -> Iterator[None]:
        self._execute(sql.SQL("SELECT pg_advisory_lock({})").format(TEMPLATE_LOCK))
        try:
            yield
        finally:
            self._execute(sql.SQL("SELECT pg_advisory_unlock({})").format(TEMPLATE_LOCK))

    def create_empty_database(self, name: str) -> None:
        """Create a database of the owner's that nobody else may enter."""
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Identifier(self.owner)
            )
        )
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))

    def close_template(self, building: str, name: str) -> None:
        """Give a finished template its name and forbid connections, so that parallel clones never meet one."""
        old, new = sql.Identifier(building), sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(new))

    def clone(self, template: str, name: str) -> None:
        """Create a database from `template`; nobody can connect until `open_to` or `open_to_owner` lets somebody in."""
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ALLOW_CONNECTIONS false").format(
                sql.Identifier(name), sql.Identifier(self.owner), sql.Identifier(template)
            )
        )

    def open_to(self, name: str, role: str) -> None:
        """Let `role`, and no other tenant, connect to the database."""
        database = sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            self._execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))

    def open_to_owner(self, name: str) -> None:
        """Let the owner, and no tenant, connect to the database."""
        database = sql.Identifier(name)
        with self._connection.transaction():
            self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            self._execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(database))

    def close_to(self, name: str, role: str) -> None:
        """Keep `role` out of the database, and end the sessions that it has there."""
        database = sql.Identifier(name)
        self._execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, sql.Identifier(role)))
        self._end_sessions_of(role)

    def swap(self, live: str, replacement: str, kept: str | None, role: str) -> None:
        """Rename `live` to `kept` and `replacement` to `live`, and let `role` into the new `live`: all or nothing.

        PostgreSQL renames a database only when nobody is connected to it, so their sessions are ended. `kept` stays
        closed to all but its owner; None where there is no `live`.
        """
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        for name in (live, replacement):
            self._end_sessions_in(name)
        with self._connection.transaction():
            if kept is not None:
                self._execute(rename.format(sql.Identifier(live), sql.Identifier(kept)))
            self._execute(rename.format(sql.Identifier(replacement), sql.Identifier(live)))
            self.open_to(live, role)

    def _end_sessions_in(self, name: str) -> None:
        query = (
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()"
        )
        self._scalar(query, name)

    @property
    def major_version(self) -> int:
        return self._connection.info.server_version // 10000

    def database_size(self, name: str) -> int:
        """Return how many bytes the database takes."""
        return int(str(self._scalar("SELECT pg_database_size(%s)", name)))

    def databases_named(self, prefix: str) -> list[str]:
        """Return the names of the databases that begin with `prefix`."""
        return [
            row[0] for row in self._rows("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        ]

    def roles_named(self, prefix: str) -> list[str]:
        """Return the names of the roles that begin with `prefix`."""
        return [row[0] for row in self._rows("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [prefix])]

    def drop_database(self, name: str) -> None:
        """Drop the database, ending its connections."""
        if self.database_exists(name):
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- transactions that wait for their end -------------------------------------------------------------------------

    def prepared_transactions(self, gid_prefix: str) -> dict[str, str]:
        """Return {gid: database} of the prepared transactions whose name begins so."""
        query = "SELECT gid, database FROM pg_prepared_xacts WHERE starts_with(gid, %s) ORDER BY gid"
        return dict(self._rows(query, [gid_prefix]))

    def prepared_capacity(self) -> tuple[int, int]:
        """Return how many transactions can be prepared at once, and how many are."""
        query = (
            "SELECT current_setting('max_prepared_transactions')::int, (SELECT count(*) FROM pg_prepared_xacts)::int"
        )
        [(maximum, used)] = self._rows(query)
        return maximum, used

    def doors(self, names: Sequence[str]) -> dict[str, Door]:
        """Return who may enter each of the databases (roles are named like them); those that are gone are left out."""
        parameters = {"group": self.group, "names": list(names)}
        return {row[0]: Door(*row[1:]) for row in self._rows(DOORS, parameters)}

    # -- the write-ahead log -------------------------------------------------------------------------------------------

    def facts(self) -> ServerFacts:
        """Return what base backups and recovery need to know of the server, with its time of day."""
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

    def archiver(self) -> ArchiverState:
        """Return how the server's own archiving goes."""
        [row] = self._rows(ARCHIVER, {"slot": RECEIVER_SLOT})
        return ArchiverState(*row)

    def promote(self) -> None:
        """Have a server that is paused at its target end its recovery; it takes a moment (`is_in_recovery`)."""
        self._scalar("SELECT pg_promote(false)")

    def is_in_recovery(self) -> bool:
        return bool(self._scalar("SELECT pg_is_in_recovery()"))

    def roll_back_prepared(self) -> None:
        """Roll back every prepared transaction, each in its own database, whoever prepared it."""
        for gid, database in self.prepared_transactions("").items():
            with self._connect(database) as connection:
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))

    def is_paused_in_recovery(self) -> bool:
        """Tell whether the server has stopped replaying its log and waits, read-only."""
        query = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END"
        return bool(self._scalar(query))

    def database_oid(self, name: str) -> int | None:
        """Return the name of the database's folder, None where there is no such database."""
        return cast("int | None", self._scalar("SELECT oid::int8 FROM pg_database WHERE datname = %s", name))

    # -- where things are ----------------------------------------------------------------------------------------------

    def location(self, role: str, password: str, *, database: str | None = None) -> DatabaseLocation:
        """Return the URL under which a role reaches its database: the server's, with the role's name and password.

        A tenant's role and database are called alike; `database` is another one.
        """
        name = role if database is None else database
        parts = urlsplit(self.server.admin_url)
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(role, safe='')}:{quote(password, safe='')}@{host}"
        return DatabaseLocation(name, role, password, urlunsplit(parts._replace(netloc=netloc, path=f"/{name}")))

    def _connect(self, database: str | None = None) -> psycopg.Connection:
        url = self.server.admin_url
        if database is not None:
            url = urlunsplit(urlsplit(url)._replace(path=f"/{quote(database, safe='')}"))
        try:
            return psycopg.connect(
                url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=self._application
            )
        except psycopg.ProgrammingError as error:
            # libpq quotes what it cannot read, which may be the password.
            raise ServerError(
                _("The administrator's URL of database server %(name)s cannot be read.") % {"name": self.server.name},
                hint=_("It has the form postgresql://user:password@host:port/postgres; encode special characters."),
            ) from error
        except psycopg.Error as error:
            raise ServerError(
                _("Database server %(name)s cannot be reached: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)},
                hint=_("Check its administrator's URL in the admin."),
            ) from error

    def _execute(self, statement: sql.Composed) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            raise self._refused(error) from error

    def _scalar(self, query: LiteralString, *parameters: object) -> object:
        rows = self._rows(query, parameters)
        return rows[0][0] if rows else None

    def _rows(
        self, query: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except psycopg.OperationalError as error:
            raise ServerError(
                _("Database server %(name)s went away: %(reason)s.")
                % {"name": self.server.name, "reason": reason_of(error)}
            ) from error
        except psycopg.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: psycopg.Error) -> ServerError:
        return ServerError(
            _("Database server %(name)s refused: %(reason)s.") % {"name": self.server.name, "reason": reason_of(error)}
        )


def parse_location(url: str) -> DatabaseLocation:
    """Read database, role and password back from a tenant's URL."""
    parts = urlsplit(url)
    return DatabaseLocation(
        unquote(parts.path.lstrip("/")), unquote(parts.username or ""), unquote(parts.password or ""), url
    )


def bind_identity(tenant: Tenant, actor: Actor) -> None:
    """Connect as the tenant itself and have its database bound to it, audit chain included; see `bind_tenant`.

    Repeating it changes nothing. Raises `TenantUnreachable`, or `TenantIdentityMismatch` where it is another's.
    """
    try:
        with psycopg.connect(tenant.database_url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            values = (tenant.id, tenant.identity, actor.user_id, actor.operation_id)
            bound = connection.execute(
                "SELECT tenant_id, identity FROM public.bind_tenant(%s, %s, %s, %s)", values
            ).fetchone()
    except psycopg.Error as error:
        raise TenantUnreachable(tenant.id, reason_of(error)) from error
    if bound != (tenant.id, tenant.identity):
        raise TenantIdentityMismatch(tenant.id, f"it belongs to {bound[0] if bound else 'nobody'}")
