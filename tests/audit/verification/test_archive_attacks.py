"""Attacks on the archive of erased tenants' logs that `audit verify` detects or that stop a deletion.

Those that the database refuses are in tests/audit/log/test_archive.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.db import connections, transaction

from audit.control.models import AuditArchive
from audit.log.archive import archived_lines, log_archive, log_summary
from audit.log.entries import record
from audit.verification.anchor import audit_anchor
from audit.verification.log_check import Kind, LogReport
from audit.verification.verify import audit_verify
from tenants.erasure.delete import tenant_delete
from tenants.errors import DeletionUnfinished
from tenants.models import Tenant, TenantStatus, database_prefix
from tenants.routing.owner_connection import owner_connection
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession
from tests.audit.archives import triggers_off
from tests.audit.attacks import put_back
from tests.audit.conftest import Log
from tests.tenants.support.erased import forget_erasure


@pytest.fixture(autouse=True)
def _as_before(control_log: Log) -> Iterator[None]:
    with put_back(control_log):
        yield


@pytest.fixture
def erased(tenant: Tenant, tenant_log: Log) -> Iterator[Tenant]:
    """A tombstone whose log was anchored and then archived, as an erasure archives it."""
    with tenant_log.as_app() as app:
        for _ in range(10):
            app.execute(tenant_log.insert)
    audit_anchor()
    assert tenant.server is not None
    with (
        owner_connection(tenant.server, database_of(tenant), "test") as source,
        transaction.atomic(using="default"),
    ):
        archive = log_archive(source, tenant_id=tenant.id, identity=tenant.identity, chain_identity=tenant.identity)
        record(
            using="default",
            action="audit.archive",
            resource_type="tenant",
            resource_id=tenant.id,
            details={
                "identity": str(archive.identity),
                "entries": archive.entries,
                "head": archive.head_hash,
                "digest": archive.digest,
                "first_bad": archive.first_bad,
            },
        )
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.DELETED, is_active=False)
    yield tenant
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)


def kinds(report: LogReport) -> list[Kind]:
    return [one.kind for one in report.problems]


def test_the_archived_log_of_an_erased_tenant_verifies(erased: Tenant) -> None:
    control, archived = audit_verify(tenant_id=erased.id)
    assert (archived.log, archived.tenant_id, archived.problems) == ("archive", erased.id, [])
    assert archived.entries >= 10 and archived.anchors == 1
    assert archived.last_good_anchor is not None and archived.last_good_anchor.sequence == archived.entries
    assert control.problems == []
    assert replace(archived, problems=[]) in [replace(one, problems=[]) for one in audit_verify()]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE archived_audit_logs SET action = 'forged' WHERE identity = %s AND sequence = 5", "broken at entry 5"),
        ("DELETE FROM archived_audit_logs WHERE identity = %s AND sequence = 4", "broken at entry 4"),
        ("DELETE FROM archived_audit_logs WHERE identity = %s AND sequence > 8", "entries found: 8."),
        ("DELETE FROM archived_audit_logs WHERE identity = %s", "entries found: 0."),
        ("UPDATE audit_archives SET digest = 'x' WHERE identity = %s", "differs from what the control log recorded"),
        ("UPDATE archived_audit_logs SET tenant_id = 'x' WHERE identity = %s AND sequence = 5", "names another tenant"),
        (
            "UPDATE audit_archives SET chain_identity = gen_random_uuid() WHERE identity = %s",
            "The summary of the archived audit log of",
        ),
    ],
)
def test_a_changed_archive_is_reported(erased: Tenant, control_log: Log, statement: str, told: str) -> None:
    with triggers_off(control_log) as superuser:
        superuser.execute(statement, (erased.identity,))
    _control, archived = audit_verify(tenant_id=erased.id)
    assert set(kinds(archived)) & {Kind.ARCHIVE, Kind.ROLLED_BACK}
    assert any(told in one.message for one in archived.problems)


def test_an_archive_renamed_to_another_tenant_is_reported(erased: Tenant, control_log: Log) -> None:
    with triggers_off(control_log) as superuser:
        for table in ("audit_archives", "archived_audit_logs"):
            superuser.execute(f"UPDATE {table} SET tenant_id = 'x' WHERE identity = %s", (erased.identity,))
    [archived] = [one for one in audit_verify() if one.identity == erased.identity]
    assert "The archive differs from what the control log recorded." in [one.message for one in archived.problems]


def test_the_control_log_shows_a_replaced_archive(erased: Tenant, control_log: Log) -> None:
    """Shorten the archive and recompute its digest, so that the archive itself is consistent."""
    with triggers_off(control_log) as superuser:
        superuser.execute("DELETE FROM archived_audit_logs WHERE identity = %s AND sequence > 5", (erased.identity,))
        superuser.execute("DELETE FROM audit_archives WHERE identity = %s", (erased.identity,))
    _digest(erased)
    _control, archived = audit_verify(tenant_id=erased.id)
    assert Kind.ARCHIVE in kinds(archived) and Kind.ROLLED_BACK in kinds(archived)
    assert "The archive differs from what the control log recorded." in [one.message for one in archived.problems]


def test_a_missing_archive_is_reported(erased: Tenant, control_log: Log) -> None:
    with triggers_off(control_log) as superuser:
        for table in ("archived_audit_logs", "audit_archives"):
            superuser.execute(f"DELETE FROM {table} WHERE identity = %s", (erased.identity,))
    control, lost = audit_verify(tenant_id=erased.id)
    assert [one.message for one in control.problems] == [f"The archived audit log of {erased.id} is missing."]
    assert [one.message for one in lost.problems] == ["The tenant was erased, but there is no archive of its log."]


def test_a_forged_archive_is_reported(erased: Tenant, control_log: Log) -> None:
    with control_log.as_app() as app:
        app.execute(
            "INSERT INTO audit_archives (tenant_id, identity, chain_identity, entries, head_hash, digest)"
            " VALUES (%s, gen_random_uuid(), gen_random_uuid(), 0, 'x', 'x')",
            (erased.id,),
        )
    reports = audit_verify(tenant_id=erased.id)[1:]
    assert any(
        "No audit.archive entry in the control log matches this archive." in one.message
        for it in reports
        for one in it.problems
    )


def test_changed_guards_of_the_archive_are_reported(erased: Tenant, control_log: Log) -> None:
    with control_log.as_superuser() as superuser:
        superuser.execute("ALTER TABLE archived_audit_logs DISABLE TRIGGER prevent_audit_log_modification")
    [problem] = audit_verify(tenant_id=erased.id)[0].problems
    assert problem.message == "trigger prevent_audit_log_modification on archived_audit_logs is disabled."


def _digest(erased: Tenant) -> None:
    """Write an archive row that matches the current entries."""
    summary = log_summary(archived_lines(erased.identity), erased.identity)
    AuditArchive.objects.create(
        tenant_id=erased.id,
        identity=erased.identity,
        chain_identity=erased.identity,
        entries=summary.entries,
        head_hash=summary.head.hash,
        digest=summary.digest,
    )


@pytest.mark.parametrize("forged", ["entries", "archive"])
def test_planted_archive_entries_are_not_accepted_as_the_log(tenant: Tenant, forged: str) -> None:
    """Rows that the application appended to the archive stop the deletion; `--accept-audit-loss` gets past them."""
    if forged == "archive":
        AuditArchive.objects.create(
            tenant_id=tenant.id,
            identity=tenant.identity,
            chain_identity=tenant.identity,
            entries=0,
            head_hash="",
            digest="",
        )
    else:
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "INSERT INTO archived_audit_logs (tenant_id, identity, sequence, previous_hash, entry_hash, created_at,"
                " user_id, action, resource_type, resource_id) VALUES (%s, %s, 1, '', '', now(), '', '', '', '')",
                [tenant.id, tenant.identity],
            )
    with pytest.raises(DeletionUnfinished, match="--accept-audit-loss"):
        tenant_delete(tenant_id=tenant.id)
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix()) as server_session:
        assert server_session.database_exists(database_of(tenant))
    row = tenant_delete(tenant_id=tenant.id, accept_audit_loss=True)
    assert row.certificate is not None and row.certificate["remains"]["audit"]["entries"] is None
    forget_erasure(row)
