"""The time that backups, restores and point-in-time restores take, compared with PostgreSQL's own programs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from psycopg import sql

from benchmarks.children import child
from benchmarks.environment import Environment
from benchmarks.launch import Ended, run
from benchmarks.measure import interleaved, ratios
from benchmarks.tables import Row, Table
from benchmarks.tenants.bare import BareRecovery, pg_dump, pg_restore

ROUNDS = 3
WARM_UP = 1
MB = 1_000_000
# A million rows of about a kilobyte that does not compress well.
ROWS = 1_000_000
FILL = """
INSERT INTO runs (id, status, config)
SELECT gen_random_uuid(), 'completed',
       jsonb_build_object(
           'keyword', (SELECT string_agg(md5(row || '.' || part), ' ') FROM generate_series(1, 28) AS part)
       )
  FROM generate_series(1, %s) AS row
"""
NEIGHBOURS = 200
# Reads like the product every 20 ms; finally prints the longest time between two successful reads.
READER = """
import sys, threading, time
import django
django.setup()
from django.db import DatabaseError
from runs.models import Run
from tenants.routing.context import tenant_context
from tenants.errors import TenantError
longest, last = 0.0, None
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
def read():
    with tenant_context(sys.argv[1]) as alias:
        Run.objects.using(alias).order_by("-created_at").first()
read()
print("reading", flush=True)
while not ended.wait(0.02):
    try:
        read()
    except (TenantError, DatabaseError):
        # Closed, or interrupted in the middle of the query.
        continue
    now = time.perf_counter()
    longest, last = max(longest, now - (last or now)), now
print(longest, flush=True)
"""
_numbers = count()


def backup(environment: Environment) -> list[Table]:
    """Back up and restore a tenant with 1 GB of rows."""
    big = _tenant("big")
    _fill(big)
    return [*_dumps(environment, big), *_restores(environment, big)]


def _dumps(environment: Environment, tenant_id: str) -> list[Table]:
    folder = environment.home.path / "backups"
    folder.mkdir()
    runs: list[Ended] = []

    def ours() -> float:
        runs.append(_command(environment, "tenant", "backup", "--tenant-id", tenant_id, "--output", str(folder)))
        _keep_newest(folder)
        return runs[-1].seconds

    contenders = {"ours": ours, "bare": lambda: pg_dump(environment, tenant_id, folder / "bare.dump")}
    seconds = interleaved(contenders, rounds=ROUNDS, warm_up=0)
    rows = [
        Row("whole command ÷ pg_dump alone", ratios(seconds["ours"], seconds["bare"]), at_most=1.1),
        Row("memory of the command at its peak, MB", [ended.peak_bytes / MB for ended in runs], at_most=200),
    ]
    return [Table("Backing up 1 GB of rows", rows)]


def _restores(environment: Environment, tenant_id: str) -> list[Table]:
    folder = environment.home.path / "backups"
    [file] = [path for path in folder.glob("*.dump") if path.name != "bare.dump"]
    runs: list[Ended] = []
    gaps: list[float] = []

    def ours() -> float:
        with _reader(environment, tenant_id) as gap:
            arguments = ("--tenant-id", tenant_id, "--backup-file", str(file), "--confirm", "--json")
            runs.append(_command(environment, "tenant", "restore", *arguments))
        gaps.append(gap[0])
        _drop_replaced()
        return runs[-1].seconds

    contenders = {"ours": ours, "bare": lambda: pg_restore(environment, folder / "bare.dump", f"bare_{next(_numbers)}")}
    seconds = interleaved(contenders, rounds=ROUNDS, warm_up=0)
    closed = [json.loads(ended.output)["unavailable_ms"] / 1000 for ended in runs]
    rows = [
        Row("whole command ÷ pg_restore alone", ratios(seconds["ours"], seconds["bare"]), at_most=1.2),
        Row("longest gap of a reader that reads every 20 ms, seconds", gaps, at_most=1),
        Row("closed, by the command's own account, seconds", closed),
        Row("memory of the command at its peak, MB", [ended.peak_bytes / MB for ended in runs], at_most=200),
    ]
    return [Table("Restoring 1 GB of rows", rows)]


def in_time(environment: Environment) -> list[Table]:
    """Restore a small tenant to a point in time, on a server with many other tenants.

    The base backup contains all of them. A tenant that is created after the target is only in the WAL.
    """
    from tenants.lifecycle.create import tenant_create

    small = _tenant("small")
    for number in range(NEIGHBOURS - 1):
        tenant_create(name=f"neighbour {number}")
    base = environment.home.path / "base"
    _command(environment, "cluster", "backup", "--output", str(base))
    target = _moment(environment)
    _tenant("later")
    runs: list[Ended] = []

    def ours() -> float:
        arguments = ("--tenant-id", small, "--to-time", target, "--confirm", "--json")
        runs.append(_command(environment, "tenant", "restore", *arguments))
        _drop_replaced()
        return runs[-1].seconds

    # Our first restore archives the WAL that the other contender needs.
    ours()
    [backup_folder] = base.iterdir()
    bare = BareRecovery(environment, backup_folder, target)
    seconds = interleaved({"ours": ours, "bare": bare.recover}, rounds=ROUNDS, warm_up=WARM_UP)
    rows = [
        Row("whole command ÷ copying and replaying alone", ratios(seconds["ours"], seconds["bare"]), at_most=1.3),
        Row("seconds of the command", seconds["ours"]),
        Row("memory of the command at its peak, MB", [ended.peak_bytes / MB for ended in runs], at_most=200),
    ]
    return [Table(f"One small tenant back in time, on a server with {NEIGHBOURS}", rows)]


@contextmanager
def _reader(environment: Environment, tenant_id: str) -> Iterator[list[float]]:
    """Read from the tenant in another process during the block.

    Once the block has ended, the yielded list holds the longest gap between two successful reads, in seconds.
    """
    gap: list[float] = []
    with child(["-c", READER, tenant_id], log=environment.log("reader"), environment=dict(os.environ)) as reader:
        reader.answer()
        yield gap
        gap.append(float(reader.answer("end")))


def _command(environment: Environment, *words: str) -> Ended:
    program = [sys.executable, "-c", "import sys; from config.cli import main; sys.exit(main())", *words]
    output = environment.home.path / "command.out"
    return run(program, output=output, log=environment.log("command"), environment=dict(os.environ))


def _tenant(name: str) -> str:
    from tenants.lifecycle.create import tenant_create

    return tenant_create(name=f"bench {name}").id


def _fill(tenant_id: str) -> None:
    from tenants.models import database_prefix
    from tenants.routing.owner_connection import owner_connection
    from tenants.schema.inspection import database_of
    from tenants.selectors import tenants_existing

    tenant = tenants_existing().get(pk=tenant_id)
    assert tenant.server is not None and database_prefix()
    with owner_connection(tenant.server, database_of(tenant), "fill") as connection, connection.cursor() as cursor:
        cursor.execute(FILL, [ROWS])
        cursor.execute("VACUUM ANALYZE")
        # Flushed, so that no contender's round includes it.
        cursor.execute("SET ROLE NONE")
        cursor.execute("CHECKPOINT")


def _keep_newest(folder: Path) -> None:
    made = sorted(
        (path for path in folder.glob("*.dump") if path.name != "bare.dump"), key=lambda path: path.stat().st_mtime
    )
    for path in made[:-1]:
        path.unlink()


def _drop_replaced() -> None:
    from django.utils import timezone

    from tenants.models import Restore
    from tenants.retention.prune import backup_prune

    Restore.objects.using("default").exclude(kept_until=None).update(kept_until=timezone.now())
    backup_prune()


def _moment(environment: Environment) -> str:
    with environment.server() as server:
        [(moment,)] = server.execute(sql.SQL("SELECT clock_timestamp()")).fetchall()
    time.sleep(0.01)
    return str(moment.isoformat())
