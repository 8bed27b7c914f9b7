"""What the audit log's benchmark compares, and how it evaluates its writers' replies."""

from __future__ import annotations

import psycopg
import pytest

from benchmarks.audit_log.audit import CHAINED, MAKE_UNCHAINED, UNCHAINED, dealt, seconds_per_entry
from benchmarks.audit_log.audit_writer import answers
from tenants.models import Tenant
from tests.audit.audited import as_superuser
from tests.audit.chain import verify
from tests.audit.conftest import Log, tenant_log

__all__ = ["tenant_log"]

COLUMNS = """
SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = %s ORDER BY 1
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE tablename = %s"
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgenabled = 'A'"


def test_writers_share_databases_only_if_there_are_few() -> None:
    assert dealt(["a"], 3) == [["a"], ["a"], ["a"]]
    assert dealt(["a", "b", "c", "d"], 2) == [["a", "c"], ["b", "d"]]
    assert sorted(len(own) for own in dealt(list("abcdefgh"), 3)) == [2, 3, 3]


def test_rates_of_writers_add_up() -> None:
    assert seconds_per_entry(["100 1.0"]) == pytest.approx(0.01)
    assert seconds_per_entry(["100 1.0", "300 1.0"]) == pytest.approx(0.0025)
    assert seconds_per_entry(["100 1.0", "200 2.0"]) == pytest.approx(0.005)


def test_the_other_table_differs_in_nothing_but_the_chain(tenant: Tenant) -> None:
    with as_superuser(tenant) as connection:
        connection.execute(MAKE_UNCHAINED)
        columns = [connection.execute(COLUMNS, [table]).fetchall() for table in (CHAINED, UNCHAINED)]
        indexes = [connection.execute(INDEXES, [table]).fetchall() for table in (CHAINED, UNCHAINED)]
        triggers = [
            {name for (name,) in connection.execute(TRIGGERS, [table]).fetchall()} for table in (CHAINED, UNCHAINED)
        ]
    assert columns[0] == columns[1]
    assert _kinds(indexes[0]) == _kinds(indexes[1])
    assert triggers[0] - triggers[1] == {"chain_audit_logs"} and triggers[1] < triggers[0]


def _kinds(indexes: list[tuple[str]]) -> list[str]:
    """Describe each index without its name: whether it is unique, its method and its columns."""
    return sorted(f"{'UNIQUE' in definition} {definition.partition(' USING ')[2]}" for (definition,) in indexes)


def test_a_writer_counts_what_it_committed(tenant: Tenant, tenant_log: Log) -> None:
    with as_superuser(tenant) as connection:
        connection.execute(MAKE_UNCHAINED)
    requests = iter([f"{CHAINED} first 0.05", f"{CHAINED} after 0.05", f"{UNCHAINED} later 0.05"])
    with psycopg.connect(tenant_log.superuser_url) as superuser:
        before = verify(superuser, tenant_log)
    ready, first, after, unchained = answers([tenant.database_url], requests)
    assert ready == "ready"
    chained = sum(int(answer.split()[0]) for answer in (first, after))
    with psycopg.connect(tenant_log.superuser_url) as superuser:
        assert verify(superuser, tenant_log) - before == chained > 1
        assert superuser.execute(f"SELECT count(*) FROM {UNCHAINED}").fetchall() == [(int(unchained.split()[0]),)]
