"""Recovery on a server with only the manual's roles, to times before and after these roles changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import sql

from config.stack.postgres import binaries_folder
from tenants.backup.dump import DumpFormat, dump
from tenants.lifecycle.setup import server_register
from tenants.models import DatabaseServer
from tenants.pitr.base_backup import cluster_backup
from tenants.pitr.recover_server import Target, recovered_server
from tests.support import superuser
from tests.tenants.support.archives import commit, connected, forget, new_database, now, remains, rows_at, switch
from tests.tenants.support.own_server import (
    ADMINISTRATOR,
    BINARIES_15,
    SUPERUSER,
    OwnServer,
    manual_script,
    own_server,
    set_password,
)

NEW_SUPERUSER = "new_root"
NEW_ADMINISTRATOR = "new_admin"
VERSIONS = [
    pytest.param(binaries_folder, id="embedded"),
    pytest.param(
        lambda: BINARIES_15,
        id="15",
        marks=[
            pytest.mark.external,
            pytest.mark.skipif(not BINARIES_15.is_dir(), reason=f"there is no PostgreSQL 15 in {BINARIES_15}"),
        ],
    ),
]


@pytest.fixture(scope="module", params=VERSIONS)
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    binaries: Callable[[], Path] = request.param
    with own_server(tmp_path_factory.mktemp("own"), binaries(), script=manual_script()) as server:
        # What is created here belongs to the administrator, as on a server without access to the superuser.
        superuser.forget(server.port)
        yield server


@pytest.fixture(scope="module")
def server(own: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """Yield the registered server; its base backup is older than everything that the tests do."""
    registered = server_register(name="by-the-manual", admin_url=own.url())
    registered.wal_archive = str(own.archive)
    registered.save()
    cluster_backup(server_name=registered.name, output=str(tmp_path_factory.mktemp("base")))
    yield registered
    forget(registered)


def test_administrator_is_not_a_superuser(server: DatabaseServer) -> None:
    with connected(server) as connection:
        query = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(query).fetchall() == [(False, False)]


def test_before_and_after_the_roles_changed(own: OwnServer, server: DatabaseServer) -> None:
    """In between, the administrator gets a new password and name, then may not log in; the superuser is renamed."""
    database = new_database(server)
    moments = {"at first": commit(server, database, "a")}
    password = own.passwords[SUPERUSER]
    with own.as_superuser() as superuser:
        set_password(superuser, ADMINISTRATOR, password)
        server.admin_url = own.url(password=password)
        server.save()
        moments["with another password"] = commit(server, database, "b")
        superuser.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(NEW_SUPERUSER)))
        set_password(superuser, NEW_SUPERUSER, password)
    with own.as_superuser(role=NEW_SUPERUSER) as superuser:
        for old, new in ((ADMINISTRATOR, NEW_ADMINISTRATOR), (SUPERUSER, "former")):
            superuser.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
            superuser.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(new)))
        superuser.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(NEW_ADMINISTRATOR)))
        set_password(superuser, NEW_ADMINISTRATOR, password)
        server.admin_url = own.url(NEW_ADMINISTRATOR, password=password)
        server.save()
        moments["under another name"] = commit(server, database, "c")
        superuser.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(NEW_ADMINISTRATOR)))
        moments["closed to it"] = now(superuser)
        superuser.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(NEW_ADMINISTRATOR)))
        _rename_back(own)
    _expect(server, database, moments, {"at first": "a", "with another password": "ab", "under another name": "abc"})
    _expect(server, database, moments, {"closed to it": "abc"})


def _rename_back(own: OwnServer) -> None:
    with own.as_superuser(role=NEW_SUPERUSER) as superuser:
        superuser.execute(sql.SQL("ALTER ROLE former RENAME TO {}").format(sql.Identifier(SUPERUSER)))
        superuser.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(SUPERUSER)))
        set_password(superuser, SUPERUSER, own.passwords[SUPERUSER])


def _expect(server: DatabaseServer, database: str, moments: dict[str, datetime], expected: dict[str, str]) -> None:
    for name, rows in expected.items():
        assert rows_at(server, Target(time=moments[name]), database) == list(rows), name
    assert remains() == []


def test_a_database_that_was_closed_and_had_settings_of_its_own(own: OwnServer, server: DatabaseServer) -> None:
    """A swap closes a database briefly, and its owner may set anything."""
    database = new_database(server)
    commit(server, database, "a")
    with own.as_superuser() as superuser:
        name = sql.Identifier(database)
        for change in (
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false CONNECTION LIMIT 0"),
            sql.SQL("ALTER DATABASE {} SET search_path = nowhere"),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC"),
        ):
            superuser.execute(change.format(name))
        closed = now(superuser)
    assert rows_at(server, Target(time=closed), database) == ["a"]


def test_rows_that_policies_hide_and_what_is_prepared(own: OwnServer, server: DatabaseServer) -> None:
    """Reading the database runs none of its code; another database's prepared transaction is left alone."""
    database, other = new_database(server), new_database(server)
    commit(server, database, "a")
    with connected(server, database) as connection:
        connection.execute(
            "CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'it was run'; END $$;"
            "CREATE POLICY hidden ON rows USING (spy());"
            "ALTER TABLE rows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
    for name in (database, other):
        with connected(server, name) as connection:
            connection.execute("BEGIN; LOCK TABLE rows IN ACCESS EXCLUSIVE MODE")
            connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(f"somebody's\n;\n\n {name}"))
            prepared = now(connection)
    dumped: list[bytes] = []
    with recovered_server(server, Target(time=prepared), work=str(uuid4()), database=database) as recovered:
        dump(
            recovered,
            database,
            18,
            lambda stream: dumped.append(stream.read()),
            work="test",
            dump_format=DumpFormat.PLAIN,
            as_owner=False,
        )
        with connected(recovered, database) as connection:
            assert connection.execute("SELECT database FROM pg_prepared_xacts").fetchall() == [(other,)]
    assert b"\na\n" in b"".join(dumped)
    for name in (database, other):
        with connected(server, name) as connection:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(f"somebody's\n;\n\n {name}"))


def test_a_server_without_its_maintenance_database(own: OwnServer, server: DatabaseServer) -> None:
    database = new_database(server)
    commit(server, database, "a")
    with own.as_superuser(database) as superuser:
        superuser.execute("ALTER DATABASE postgres RENAME TO elsewhere")
        without = now(superuser)
        superuser.execute("ALTER DATABASE elsewhere RENAME TO postgres")
    switch(server)
    assert rows_at(server, Target(time=without), database) == ["a"]
