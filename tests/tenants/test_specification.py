"""The live catalogs and the commands, compared with the specification."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from config.stack.paths import CHECKOUT
from tenants.models import Tenant, TenantStatus
from tests.support.program import PROGRAM, seo_gen_at_terminal
from tests.support.superuser import superuser_url
from tests.tenants.support.specification import CONTROL, RUN_COSTS, TENANT, Table

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
CONSTRAINTS = """
SELECT contype,
       (SELECT array_agg(attname::text ORDER BY position)
          FROM unnest(conkey) WITH ORDINALITY AS key (number, position)
          JOIN pg_attribute ON attrelid = conrelid AND attnum = number),
       confrelid::regclass::text
  FROM pg_constraint WHERE conrelid = %s::regclass
"""
TABLES = [("control", name, table) for name, table in CONTROL.items()] + [
    ("tenant", name, table) for name, table in TENANT.items()
]


@pytest.fixture(scope="module")
def catalogs() -> Iterator[dict[str, psycopg.Connection]]:
    """Yield connections to the control database and to a tenant's database, by kind."""
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove

    tenant = tenant_create(name="Specification")
    with (
        psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as control,
        psycopg.connect(tenant.database_url, autocommit=True) as own,
    ):
        yield {"control": control, "tenant": own}
    remove(tenant)


@pytest.mark.parametrize(("kind", "name", "table"), TABLES)
def test_every_specified_column_type_default_and_key_is_there(
    kind: str, name: str, table: Table, catalogs: dict[str, psycopg.Connection]
) -> None:
    live = {row[0]: row[1:] for row in catalogs[kind].execute(COLUMNS, [f"public.{name}"])}
    for column, wanted in table.columns.items():
        assert column in live, f"{name}.{column} is missing"
        type_, not_null, default = live[column]
        assert type_ == wanted.type, f"{name}.{column}"
        assert not_null or not wanted.not_null, f"{name}.{column} must be NOT NULL"
        assert (default or "").startswith(wanted.default or ""), f"{name}.{column}"
    constraints = catalogs[kind].execute(CONSTRAINTS, [f"public.{name}"]).fetchall()
    assert ("p", [table.primary_key], "-") in constraints
    for column, (other, _) in table.references.items():
        assert ("f", [column], other) in constraints
    for columns in table.unique:
        assert ("u", list(columns), "-") in constraints


@pytest.mark.parametrize(("kind", "name", "table"), TABLES)
def test_columns_beyond_the_specification_need_no_value(
    kind: str, name: str, table: Table, catalogs: dict[str, psycopg.Connection]
) -> None:
    for column, _, not_null, default in catalogs[kind].execute(COLUMNS, [f"public.{name}"]):
        assert column in table.columns or default is not None or not not_null, f"{name}.{column}"


def test_the_costs_view_begins_with_the_specified_columns(catalogs: dict[str, psycopg.Connection]) -> None:
    live = [(row[0], row[1]) for row in catalogs["tenant"].execute(COLUMNS, ["public.run_costs"])]
    assert live[: len(RUN_COSTS)] == list(RUN_COSTS.items())


def test_plain_inserts_of_the_specified_columns_work_and_costs_are_added_up(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url, autocommit=True) as own:
        run = own.execute("INSERT INTO runs (status) VALUES ('running') RETURNING id").fetchone()
        assert run is not None
        own.execute(
            "INSERT INTO steps (run_id, step, status, token_usage, cost_per_1k_input_tokens, cost_per_1k_output_tokens)"
            " VALUES (%s, 'draft', 'completed', %s, 0.002, 0.01)",
            [run[0], '{"input": 1500, "output": 500}'],
        )
        own.execute(
            "INSERT INTO artifacts (run_id, step, file_type, file_path) VALUES (%s, 'draft', 'a', 'p')", [run[0]]
        )
        own.execute("INSERT INTO prompts (step, version, content, is_active) VALUES ('draft', 99, 'x', false)")
        costs = own.execute("SELECT total_llm_cost, total_input_tokens, total_output_tokens FROM run_costs").fetchone()
        assert costs == (Decimal("0.008"), 1500, 500)
        own.execute(
            "INSERT INTO steps (run_id, step, status, token_usage) VALUES (%s, 'x', 'completed', %s)",
            [run[0], '{"input": 1, "output": 2}'],
        )
        # A step with an unknown price is counted, not taken to cost nothing.
        unpriced = own.execute("SELECT total_input_tokens, unpriced_steps FROM run_costs").fetchone()
        assert unpriced == (1501, 1)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET action = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"]
)
def test_not_even_a_superuser_changes_the_audit_log_by_plain_sql(statement: str, tenant: Tenant) -> None:
    assert tenant.server is not None
    database = tenant.database_url.rpartition("/")[2]
    with psycopg.connect(superuser_url(tenant.server.admin_url, database), autocommit=True) as admin:
        for role in ("origin", "replica"):
            admin.execute(f"SET session_replication_role = {role}")
            with pytest.raises(psycopg.errors.RaiseException, match="audit_logs table does not allow"):
                admin.execute(statement)


# As in the specification, except for what it leaves open: the tenant's id ("xxx") and the folder ("/backups").
COMMAND_LINES = """\
seo-gen tenant create --name "customer-a"
seo-gen tenant migrate --all
seo-gen tenant migrate --tenant-id "xxx"
seo-gen tenant backup --tenant-id "xxx" --output "/backups/"
seo-gen tenant restore --tenant-id "xxx" --backup-file "/backups/xxx.sql"
seo-gen tenant delete --tenant-id "xxx" --confirm
"""


def script(lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the lines in a shell as cron does: without a terminal, and with nothing to read."""
    program = folder / "bin" / "seo-gen"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-e", "-c", lines.replace("xxx", "customer-a").replace("/backups", f"{folder}/backups")],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def plain_backup(tenant_id: str, folder: Path) -> Path:
    """Make a plain backup, and rename it as in the specification; return its path."""
    from tenants.backup.backup import tenant_backup
    from tenants.backup.dump import DumpFormat

    [outcome] = tenant_backup(tenant_id=tenant_id, output=str(folder), dump_format=DumpFormat.PLAIN)
    assert outcome.backup is not None
    return (folder / outcome.backup.name).rename(folder / f"{tenant_id}.sql")


@pytest.mark.usefixtures("empty_fleet")
def test_the_specified_command_lines_run_as_they_are_written_without_a_terminal(tmp_path: Path) -> None:
    *first, restore, delete = COMMAND_LINES.splitlines()
    result = script("\n".join(first), tmp_path)
    assert result.returncode == 0, result.stderr
    tenant = Tenant.objects.get(pk="customer-a")
    [_dump, _manifest] = (tmp_path / "backups").iterdir()
    plain_backup(tenant.id, tmp_path / "backups")
    mark(tenant)
    result = script(restore, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Tenant customer-a was restored from" in result.stdout and not is_marked(tenant)
    result = script(delete, tmp_path)
    assert result.returncode == 0, result.stderr
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.DELETED


def test_a_restore_asks_at_a_terminal(tenant: Tenant, tmp_path: Path) -> None:
    file = plain_backup(tenant.id, tmp_path)
    mark(tenant)
    words = ("tenant", "restore", "--tenant-id", tenant.id, "--backup-file", str(file))
    refused = seo_gen_at_terminal(*words, typed="no")
    assert refused.returncode == 1 and "Nothing was done." in refused.screen and is_marked(tenant)
    assert f"The database of tenant {tenant.id} will be replaced" in refused.screen
    done = seo_gen_at_terminal(*words, "--json", typed=tenant.id)
    assert done.returncode == 0 and f"Type {tenant.id} to continue: " in done.screen and not is_marked(tenant)
    # The question is not in the file that the document is written to.
    assert json.loads(done.stdout)["tenant_id"] == tenant.id
    unasked = seo_gen_at_terminal(*words, "--confirm", typed="no")
    assert unasked.returncode == 0 and "to continue" not in unasked.screen


def mark(tenant: Tenant) -> None:
    """Make a change that a restore reverts."""
    with psycopg.connect(tenant.database_url, autocommit=True) as own:
        own.execute("INSERT INTO runs (status) VALUES ('completed')")


def is_marked(tenant: Tenant) -> bool:
    tenant.refresh_from_db()
    with psycopg.connect(tenant.database_url) as own:
        return own.execute("SELECT FROM runs").fetchone() is not None
