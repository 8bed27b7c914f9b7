"""The archive of erased tenants' logs: complete, unchanged, and closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import transaction

from audit.control.models import AuditArchive
from audit.log.archive import archive_problem, archived_lines, log_archive, log_summary
from audit.log.file_format import audit_lines
from tenants.models import Tenant
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tests.audit.archives import TABLES, forget, triggers_off
from tests.audit.conftest import Log

INSERT = "INSERT INTO audit_logs (user_id, action, resource_type, resource_id, details) VALUES (%s, %s, 'run', %s, %s)"
ODD = ["", "é,ü", "1:a,", "quote ' \\ \n tab\t", "😀", "\\N"]
FORBIDDEN = ("UPDATE {} SET tenant_id = 'x'", "DELETE FROM {}", "TRUNCATE {}")


@pytest.fixture
def filled(tenant: Tenant, tenant_log: Log, control_log: Log) -> Iterator[Tenant]:
    with tenant_log.as_app() as app:
        for number, text in enumerate(ODD * 30):
            app.execute(INSERT, (text, f"x{number}", text, '{"é": [1.0, null, "\\n"]}' if number % 2 else None))
    yield tenant
    forget(control_log, tenant.identity)


@pytest.fixture
def archive(filled: Tenant) -> AuditArchive:
    return archived(filled)


@pytest.fixture
def superuser(control_log: Log) -> Iterator[psycopg.Connection]:
    with control_log.as_superuser() as connection:
        yield connection
        connection.rollback()


def archived(tenant: Tenant) -> AuditArchive:
    assert tenant.server is not None
    with (
        owner_connection(tenant.server, database_of(tenant), "test") as source,
        transaction.atomic(using="default"),
    ):
        return log_archive(source, tenant_id=tenant.id, identity=tenant.identity, chain_identity=tenant.identity)


def test_a_log_is_archived_unchanged(filled: Tenant) -> None:
    archive = archived(filled)
    assert filled.server is not None
    with owner_connection(filled.server, database_of(filled), "test") as source:
        assert list(archived_lines(filled.identity)) == list(audit_lines(source))
    assert archive.entries >= len(ODD) * 30
    assert archive.first_bad is None
    assert log_summary(archived_lines(filled.identity), filled.identity).digest == archive.digest
    assert archive_problem(archive) == ""


def test_a_broken_log_is_archived_with_its_first_bad_entry(filled: Tenant, tenant_log: Log) -> None:
    with tenant_log.as_superuser() as superuser:
        superuser.execute("ALTER TABLE audit_logs DISABLE TRIGGER ALL")
        superuser.execute("DELETE FROM audit_logs WHERE sequence = 7")
    archive = archived(filled)
    assert archive.first_bad == 7
    assert archive_problem(archive) == ""


def test_a_log_without_its_newest_entries_is_broken_after_its_last_entry(filled: Tenant, tenant_log: Log) -> None:
    with tenant_log.as_superuser() as superuser:
        superuser.execute("ALTER TABLE audit_logs DISABLE TRIGGER ALL")
        superuser.execute("DELETE FROM audit_logs WHERE sequence > 100")
    assert archived(filled).first_bad == 101


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_application_may_only_read_and_append(
    archive: AuditArchive, control_log: Log, table: str, statement: str
) -> None:
    with control_log.as_app() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement.format(table))


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_a_plain_statement_of_a_superuser_cannot_change_it(
    archive: AuditArchive, superuser: psycopg.Connection, table: str, statement: str, role: str
) -> None:
    superuser.execute(f"SET LOCAL session_replication_role = {role}")
    with pytest.raises(psycopg.errors.RaiseException, match="does not allow"):
        superuser.execute(statement.format(table))


def test_an_archived_log_accepts_no_more_entries(archive: AuditArchive, control_log: Log) -> None:
    with control_log.as_app() as app, pytest.raises(psycopg.errors.RaiseException, match="archived and complete"):
        app.execute(
            "INSERT INTO archived_audit_logs (tenant_id, identity, sequence, previous_hash, entry_hash, created_at,"
            " user_id, action, resource_type, resource_id) SELECT tenant_id, identity, sequence + 1, entry_hash,"
            " entry_hash, now(), 'a', 'b', 'c', 'd' FROM archived_audit_logs WHERE identity = %s"
            " ORDER BY id DESC LIMIT 1",
            (archive.identity,),
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE archived_audit_logs SET action = 'forged' WHERE identity = %s AND sequence = 5", "entry 5"),
        ("DELETE FROM archived_audit_logs WHERE identity = %s AND sequence = 9", "entry 9"),
        ("DELETE FROM archived_audit_logs WHERE identity = %s AND sequence > 170", "entries found: 170."),
        ("DELETE FROM archived_audit_logs WHERE identity = %s", "entries found: 0."),
    ],
)
def test_a_change_with_triggers_off_is_noticed(archive: AuditArchive, control_log: Log, change: str, told: str) -> None:
    with triggers_off(control_log) as superuser:
        superuser.execute(change, (archive.identity,))
    assert told in archive_problem(archive)
