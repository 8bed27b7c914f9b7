"""Strings that must not be found anywhere once their tenant is erased, and where to search for them, byte by byte."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import redis
from celery import current_app
from django.conf import settings
from psycopg import sql

from runs import turns
from runs.messages.sending import send_wake_up
from tenants.files import tenant_storage
from tenants.models import DatabaseServer, Tenant
from tests.support.superuser import superuser_url
from tests.tenants.support.filled import as_superuser

# What opening says of a file that the server has removed meanwhile, and of a socket.
NO_FILE = {errno.ENOENT, errno.ENXIO}
# Smaller files are read faster than mapped.
LARGE_BYTES = 2**20

COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type
  FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.data_type IN ('text', 'jsonb')
   AND c.table_name IN ('runs', 'steps', 'calls', 'artifacts', 'prompts', 'step_overrides')
 ORDER BY 1, 2
"""
# Columns whose constraints leave no room for the string.
CONSTRAINED = {
    ("runs", "status"),
    ("runs", "pause_cause"),
    ("steps", "status"),
    ("steps", "on_truncation"),
    ("calls", "status"),
    ("step_overrides", "model_class"),
}


def canary() -> str:
    """Return a string that occurs nowhere else, too short to be compressed."""
    return f"canary{uuid4().hex[:16]}"


def fill_columns(tenant: Tenant, text: str) -> None:
    """Put the string into the text and JSON columns of all the tenant's runs, steps, calls, artifacts, prompts and
    overrides, unless a constraint forbids it.
    """
    with as_superuser(tenant) as connection:
        columns = {(table, column): kind for table, column, kind in connection.execute(COLUMNS).fetchall()}
        assert len(columns) > 20
        # Prompts that were used, and times of changes, are not guarded then.
        connection.execute("SET LOCAL session_replication_role = replica")
        for (table, column), kind in columns.items():
            if (table, column) in CONSTRAINED:
                continue
            value = sql.SQL("concat({0}, {1})") if kind == "text" else sql.SQL("jsonb_build_object({1}, {0})")
            statement = sql.SQL("UPDATE {} SET {} = ").format(sql.Identifier(table), sql.Identifier(column))
            connection.execute(statement + value.format(sql.Identifier(column), sql.Literal(text)))


def add_files(tenant: Tenant, text: str) -> None:
    """Add files without rows, one of them among the kept ones, and older versions if the storage keeps them."""
    prefix = tenant_storage.prefix_of(tenant.id)
    for name in (f"{text}/a.md", f".kept/{uuid4()}/{text}.md", "b.md"):
        for version in ("old", "new"):
            tenant_storage.write_all({f"{prefix}{name}": f"{version} {text}".encode()})


def add_messages(*texts: tuple[Tenant, str]) -> None:
    """Queue two messages for each tenant, one of them taken by a worker but not acknowledged; remove all others."""
    current_app.control.purge()
    connection: Any = current_app.connection_for_read()
    queue = connection.SimpleQueue(current_app.conf.task_default_queue)
    for tenant, text in texts:
        send_wake_up(tenant.id, uuid4(), f"{text}-taken")
        assert f"{text}-taken" in str(queue.get(timeout=10).headers)
    # The broker keeps them until they are acknowledged, which a killed process never does.
    queue.consumer.channel.qos._delivered.clear()
    connection.transport.cycle.close()
    for tenant, text in texts:
        send_wake_up(tenant.id, uuid4(), f"{text}-waiting")


def add_turns(tenant: Tenant, text: str) -> None:
    """Add two steps to the queue for turns, one of them in flight, and a delayed one."""
    steps = [turns.Waiting(tenant.id, str(uuid4()), f"{text}-{number}", f"openai/{text}") for number in range(3)]
    turns.enqueue(steps[0])
    turns.enqueue(steps[1])
    turns.enqueue(steps[2], delay_s=3600)
    assert turns.take().turn is not None


def found_in_files(folder: Path, text: str) -> list[Path]:
    """Return the files below the folder whose bytes contain the text in any ASCII-compatible encoding."""
    paths = (os.path.join(parent, name) for parent, _folders, names in os.walk(folder) for name in names)
    return sorted(Path(path) for path in paths if _holds(path, text.encode()))


def _holds(path: str, needle: bytes) -> bool:
    try:
        # A pipe without a writer would otherwise never be opened.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in NO_FILE:
            return False
        raise
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return False
        if status.st_size < LARGE_BYTES:
            return needle in os.read(file, LARGE_BYTES)
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
            return content.find(needle) >= 0
    except ValueError:  # the server has truncated it meanwhile
        return False
    finally:
        os.close(file)


def found_in_databases(server: DatabaseServer, text: str) -> list[str]:
    """Return "database.table" for each table in schema public with a row that contains the text, in all databases of
    the server that accept connections.
    """
    found = []
    with psycopg.connect(server.admin_url) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn")]
    for name in names:
        with psycopg.connect(superuser_url(server.admin_url, name)) as connection:
            found += [f"{name}.{table}" for table in _tables_with(connection, text)]
    return found


def _tables_with(connection: psycopg.Connection, text: str) -> Iterator[str]:
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace"
    for (table,) in connection.execute(query).fetchall():
        holds = sql.SQL("SELECT EXISTS (SELECT FROM public.{} AS t WHERE strpos(t::text, {}) > 0)")
        if connection.execute(holds.format(sql.Identifier(table), sql.Literal(text))).fetchall() == [(True,)]:
            yield table


def found_in_redis(text: str) -> list[str]:
    """Return the broker's and the cache's keys that contain the text in their name or value."""
    found = []
    for url in {settings.CELERY_BROKER_URL, settings.CACHES["default"]["LOCATION"]}:
        client = redis.Redis.from_url(url)
        for key in client.scan_iter():
            if text.encode() in key or text in repr(_value(client, key)):
                found.append(key.decode())
    return found


def _value(client: Any, key: bytes) -> object:
    kind = client.type(key).decode()
    return {
        "string": lambda: client.get(key),
        "list": lambda: client.lrange(key, 0, -1),
        "hash": lambda: client.hgetall(key),
        "set": lambda: client.smembers(key),
        "zset": lambda: client.zrange(key, 0, -1),
    }[kind]()


def found_in_bucket(client: Any, bucket: str, text: str) -> list[str]:
    """Return "key version" for each version and delete marker of an object whose name or content contains the text."""
    found = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            content = b""
            if "Size" in item:
                version = {} if item["VersionId"] == "null" else {"VersionId": item["VersionId"]}
                content = client.get_object(Bucket=bucket, Key=item["Key"], **version)["Body"].read()
            if text in item["Key"] or text.encode() in content:
                found.append(f"{item['Key']} {item['VersionId']}")
    return found
