"""An administrator without superuser rights creates, changes and limits roles, as in docs/configuration.md."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tenants.models import DatabaseServer
from tenants.servers.session import ServerSession, wanted_settings
from tenants.servers.session.logins import Login
from tests.support.superuser import superuser_url

PREFIX, ADMIN = "lowly", "lowly_admin"


@pytest.fixture
def lowly() -> Iterator[ServerSession]:
    """Yield a session of an administrator whose only rights are CREATEDB, CREATEROLE, pg_signal_backend, its owner role
    and CONNECT on the database postgres.
    """
    url = DatabaseServer.objects.get(pk="main").admin_url
    with psycopg.connect(superuser_url(url), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEDB CREATEROLE PASSWORD 'x'")
        superuser.execute(f"GRANT pg_signal_backend TO {ADMIN}")
        superuser.execute(f"CREATE ROLE {PREFIX}_owner")
        superuser.execute(f"GRANT {PREFIX}_owner TO {ADMIN}")
        superuser.execute(f"GRANT CONNECT ON DATABASE postgres TO {ADMIN}")
        server = DatabaseServer(name="lowly", admin_url=f"postgresql://{ADMIN}:x@{url.rpartition('@')[2]}")
        try:
            with ServerSession(server, PREFIX) as server_session:
                server_session._execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(server_session.group)))
                yield server_session
                server_session.drop_database("lowly_1")
                server_session.drop_role("lowly_1")
        finally:
            superuser.execute(f"REVOKE CONNECT ON DATABASE postgres FROM {ADMIN}")
            superuser.execute(f"DROP ROLE IF EXISTS {PREFIX}_tenant, lowly_1")
            superuser.execute(f"DROP ROLE {ADMIN}, {PREFIX}_owner")


def test_it_needs_no_superuser(lowly: ServerSession) -> None:
    wanted = [f"{name}={value}" for name, value in sorted(wanted_settings().items())]
    lowly.ensure_login("lowly_1", "one")
    assert lowly.logins(["lowly_1", "nobody"]) == {"lowly_1": Login(20, False, wanted, [], 0)}
    lowly.create_empty_database("lowly_1")
    lowly.open_to("lowly_1", "lowly_1")
    url = lowly.location("lowly_1", "one").url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER ROLE lowly_1 SET work_mem = '1GB'")
        connection.execute("ALTER ROLE lowly_1 IN DATABASE lowly_1 SET work_mem = '2GB'")
        connection.execute("BEGIN")
        connection.execute("SELECT txid_current()")
        connection.execute("PREPARE TRANSACTION 'lowly'")
        found = lowly.logins(["lowly_1"])["lowly_1"]
        assert (found.settings, found.settings_in_databases, found.prepared) == (
            sorted([*wanted, "work_mem=1GB"]),
            ["work_mem=2GB"],
            1,
        )
        with lowly.changing_login("lowly_1", "two"):
            # Not before the block is over.
            psycopg.connect(url).close()
        lowly.end_old_sessions("lowly_1", 0)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)
    assert lowly.roll_back_prepared_of("lowly_1", lowly.location("lowly_1", "two").url) == 1
    assert lowly.logins(["lowly_1"]) == {"lowly_1": Login(20, False, wanted, [], 0)}


def test_only_what_can_be_rolled_back_is_counted(lowly: ServerSession) -> None:
    """A rotation cannot end what the role has prepared in another database; `tenant status --check` reports it."""
    lowly.ensure_login("lowly_1", "one")
    for database in ("lowly_1", "lowly_2"):
        lowly.create_empty_database(database)
        lowly.open_to(database, "lowly_1")
    url = lowly.location("lowly_1", "one").url
    with psycopg.connect(f"{url.rpartition('/')[0]}/lowly_2", autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT txid_current()")
        connection.execute("PREPARE TRANSACTION 'elsewhere'")
        try:
            assert lowly.roll_back_prepared_of("lowly_1", url) == lowly.logins(["lowly_1"])["lowly_1"].prepared == 0
            assert ("elsewhere", "lowly_2") in {(one.gid, one.database) for one in lowly.prepared()}
        finally:
            connection.execute("ROLLBACK PREPARED 'elsewhere'")
    lowly.drop_database("lowly_2")


def test_a_block_that_fails_leaves_the_password_as_it_is(lowly: ServerSession) -> None:
    lowly.ensure_login("lowly_1", "one")
    lowly.create_empty_database("lowly_1")
    lowly.open_to("lowly_1", "lowly_1")
    with pytest.raises(ValueError, match="made to fail"), lowly.changing_login("lowly_1", "two"):
        raise ValueError("made to fail")
    psycopg.connect(lowly.location("lowly_1", "one").url).close()
