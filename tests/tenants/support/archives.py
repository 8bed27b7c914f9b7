"""Servers whose WAL is archived, what was committed on them and when, and what recoveries leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from config.stack import process
from config.stack.paths import CHECKOUT
from tenants.lifecycle.setup import server_register
from tenants.models import BaseBackup, DatabaseServer, database_prefix
from tenants.pitr.recover_server import Target, recovered_server
from tenants.pitr.scratch_server import home
from tenants.servers.session import ServerSession
from tests.support import preloaded
from tests.support.servers import second_postgres
from tests.support.superuser import superuser_url

ARCHIVING = "archive_mode=on summarize_wal=on"


@contextmanager
def archived_postgres(folder: Path, name: str) -> Iterator[DatabaseServer]:
    """Run a server that archives its WAL; yield it, registered under that name."""
    with second_postgres(folder, ARCHIVING) as url:
        server = server_register(name=name, admin_url=url)
        server.wal_archive = str(folder / "postgres" / "wal")
        server.save()
        try:
            yield server
        finally:
            forget(server)


def forget(server: DatabaseServer) -> None:
    BaseBackup.objects.filter(server=server).exclude(parent=None).delete()
    BaseBackup.objects.filter(server=server).delete()
    server.delete()


def connected(server: DatabaseServer, database: str = "postgres") -> psycopg.Connection:
    """Return an autocommit session of the superuser or, if it is unknown or the server is a scratch server, of the role
    in the server's URL.
    """
    return psycopg.connect(superuser_url(server.admin_url, database), autocommit=True)


def new_database(server: DatabaseServer) -> str:
    """Create a database with an empty table `rows`; return its name."""
    name = f"history_{uuid4().hex[:8]}"
    with connected(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with connected(server, name) as connection:
        connection.execute("CREATE TABLE rows (name text)")
    return name


def commit(server: DatabaseServer, database: str, name: str) -> datetime:
    """Commit a row; return the server's time right after it."""
    with connected(server, database) as connection:
        connection.execute("INSERT INTO rows VALUES (%s)", [name])
        return now(connection)


def now(connection: psycopg.Connection) -> datetime:
    [(moment,)] = connection.execute("SELECT clock_timestamp()").fetchall()
    assert isinstance(moment, datetime)
    return moment


def rows_of(server: DatabaseServer, database: str) -> list[str]:
    with connected(server, database) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM public.rows ORDER BY name").fetchall()]


def rows_at(server: DatabaseServer, target: Target, database: str) -> list[str]:
    """Return the rows that the database contained at the target."""
    with recovered_server(server, target, work=str(uuid4()), database=database) as recovered:
        return rows_of(recovered, database)


def switch(server: DatabaseServer) -> str:
    """Commit a transaction and end the WAL segment; return the segment's name once it is archived."""
    with ServerSession(server, database_prefix()) as server_session:
        server_session.heartbeat()
        name = server_session.switch_wal()
    assert process.wait_until((Path(server.wal_archive) / name).exists, 30)
    return name


def remains() -> list[str]:
    """Return the folders and processes that recoveries have left behind."""
    folders = [path.name for path in home().iterdir()] if home().exists() else []
    return folders + [str(found.pid) for found, _mark in process.marked(f"{home()}|")]


@contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code with our settings; yield the process, and kill it at the end of the block."""
    command = [sys.executable, "-c", f"import django, os, signal, sys\ndjango.setup()\n{code}", *arguments]
    running = preloaded.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with running:
        try:
            yield running
        finally:
            running.kill()
