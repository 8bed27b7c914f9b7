"""Which tenant migrations cannot be applied all or nothing, and what the system check says about them."""

import pytest
from django.core import checks

from tenants.checks import tenant_migrations_are_transactional
from tenants.schema.transactional import untransactional
from tests.support.releases import NextRelease

pytestmark = pytest.mark.unit

REFUSED = {
    "atomic": ("    atomic = False\n    operations = []", "it sets atomic = False"),
    "index": (
        """
    atomic = False
    operations = [AddIndexConcurrently("Run", models.Index(fields=["status"], name="i"))]
""",
        "it sets atomic = False",
    ),
    "index in a transaction": (
        '    operations = [AddIndexConcurrently("Run", models.Index(fields=["status"], name="i"))]',
        "AddIndexConcurrently must run outside a transaction",
    ),
    "python": (
        "    operations = [migrations.RunPython(migrations.RunPython.noop, atomic=False)]",
        "RunPython must run outside a transaction",
    ),
    "inside": (
        '    operations = [migrations.SeparateDatabaseAndState([migrations.RunSQL("VACUUM runs")])]',
        "its SQL cannot be part of a prepared transaction: VACUUM runs …",
    ),
}
SQL_REFUSED = [
    "CREATE UNIQUE INDEX CONCURRENTLY i ON runs (id)",
    "SELECT 1; drop index  concurrently i",
    "REINDEX TABLE CONCURRENTLY runs",
    "REINDEX (VERBOSE) DATABASE x",
    "/* now */ COMMIT; BEGIN",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "CREATE DATABASE x",
    "NOTIFY somebody",
    "CREATE TEMP TABLE t (id int)",
    "ALTER TABLE a DETACH PARTITION b CONCURRENTLY",
    "REINDEX (CONCURRENTLY) TABLE runs",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    "create local temporary table t (id int)",
    "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END; VACUUM",
    "SELECT 'it''s'; SELECT $a$ $$; $a$; END",
    "CLUSTER",
    "start transaction",
]
SQL_FINE = [
    "",
    "CREATE INDEX i ON runs (id)",
    "SELECT 'CREATE INDEX CONCURRENTLY'; -- VACUUM\nSELECT 1",
    "DO $x$ BEGIN PERFORM 1; END $x$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; COMMIT; END",
    "CREATE TABLE t (temp int, vacuum text DEFAULT 'x; VACUUM'); SELECT E'\\'; VACUUM; \\''",
    "CLUSTER runs USING runs_pkey; PREPARE one AS SELECT 1",
    "REINDEX TABLE system; /* ; VACUUM /* ; */ */ SELECT 1; ;",
    'UPDATE runs SET status = status; COMMENT ON TABLE runs IS $$x; VACUUM$$; SELECT 1 AS "a;begin"',
]
IMPORT = "from django.contrib.postgres.operations import AddIndexConcurrently"


@pytest.mark.parametrize(("operations", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_operations_outside_transactions_are_found(next_release: NextRelease, operations: str, reason: str) -> None:
    next_release.add("0003_bad", operations, code=IMPORT)
    with next_release.active():
        assert untransactional() == {("runs", "0003_bad"): reason}


@pytest.mark.parametrize("sql", SQL_REFUSED)
def test_sql_outside_transactions_is_found(next_release: NextRelease, sql: str) -> None:
    next_release.add("0003_bad", f"    operations = [migrations.RunSQL({sql!r})]")
    with next_release.active():
        assert list(untransactional()) == [("runs", "0003_bad")]


@pytest.mark.parametrize("sql", SQL_FINE)
def test_sql_that_only_mentions_it_is_fine(next_release: NextRelease, sql: str) -> None:
    next_release.add(
        "0003_good", f"    operations = [migrations.RunSQL({sql!r}), migrations.RunSQL([({sql!r}, None)])]"
    )
    with next_release.active():
        assert untransactional() == {}


def test_the_system_check_names_the_migration_and_says_how_to_write_it(next_release: NextRelease) -> None:
    assert tenant_migrations_are_transactional() == []
    next_release.add("0003_bad", "    atomic = False\n    operations = []")
    with next_release.active():
        [message] = tenant_migrations_are_transactional()
    assert (message.id, message.level) == ("tenants.E002", checks.ERROR)
    assert "Tenant migration runs.0003_bad cannot be applied atomically" in message.msg
    assert message.hint is not None and "without CONCURRENTLY" in message.hint
