"""Only a restore or its undo explains a state that looks like a rollback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import transaction
from psycopg.types.json import Jsonb

from audit.log.chain_check import ChainHead
from audit.log.entries import record
from audit.verification.anchor import audit_anchor
from audit.verification.anchors import Anchor
from audit.verification.lineage import Restored, is_explained
from audit.verification.log_check import Kind, LogReport
from audit.verification.verify import audit_verify
from tenants.backup.backup import tenant_backup
from tenants.models import Tenant
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.transfer.clone import tenant_clone
from tests.audit.attacks import Victim, put_back
from tests.audit.conftest import Log
from tests.support.tenant_fixtures import remove


@pytest.fixture(autouse=True)
def _as_before(control_log: Log) -> Iterator[None]:
    with put_back(control_log):
        yield


@pytest.fixture
def victim(tenant_log: Log, tenant: Tenant) -> Victim:
    return Victim(tenant_log, tenant)


@pytest.fixture
def backup(victim: Victim, tmp_path: Path) -> str:
    """The file of a backup; the log was anchored before it, continued and anchored after it, then continued again."""
    victim.append(3)
    audit_anchor()
    [outcome] = tenant_backup(tenant_id=victim.tenant.id, output=str(tmp_path))
    assert outcome.backup is not None, outcome.problem
    victim.append(3)
    audit_anchor()
    victim.append(2)
    return f"{outcome.backup.place}/{outcome.backup.name}"


def kinds(report: LogReport) -> list[Kind]:
    return [one.kind for one in report.problems]


def test_a_restore_is_not_a_rollback(victim: Victim, backup: str) -> None:
    assert victim.report().problems == []
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    report = victim.report()
    assert (report.problems, report.anchors, report.explained) == ([], 2, 1)
    victim.append(6)
    audit_anchor()
    report = victim.report()
    assert (report.problems, report.anchors, report.explained) == ([], 3, 1)
    assert report.last_good_anchor is not None and report.last_good_anchor.sequence == report.entries


def test_an_undo_or_its_undo_is_not_a_rollback(victim: Victim, backup: str) -> None:
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    victim.append(1)
    audit_anchor()
    tenant_restore_undo(tenant_id=victim.tenant.id)
    report = victim.report()
    # Anchors of the replaced state are explained; those of the first state match again.
    assert (report.problems, report.anchors, report.explained) == ([], 3, 1)
    victim.append(1)
    audit_anchor()
    tenant_restore_undo(tenant_id=victim.tenant.id)
    report = victim.report()
    assert (report.problems, report.anchors, report.explained) == ([], 4, 2)
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    victim.append(2)
    audit_anchor()
    report = victim.report()
    assert (report.problems, report.anchors, report.explained) == ([], 5, 3)


def test_a_restore_hides_no_change_of_what_was_restored(victim: Victim, backup: str) -> None:
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    with victim.triggers_off() as superuser:
        superuser.execute("UPDATE audit_logs SET user_id = 'nobody' WHERE sequence = 2")
        victim.recompute(superuser, 2)
    assert Kind.RECOMPUTED in kinds(victim.report())


def test_a_restore_hides_no_change_of_what_came_after(victim: Victim, backup: str) -> None:
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    victim.append(4)
    audit_anchor()
    last = victim.length()
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE audit_logs SET user_id = 'nobody' WHERE sequence = {last}")
        victim.recompute(superuser, last)
    assert kinds(victim.report()) == [Kind.RECOMPUTED]


def test_a_restore_missing_from_the_log_is_a_rollback(victim: Victim, backup: str) -> None:
    """Remove the restore's own entry by hand: nothing then explains the anchor beyond the log's end."""
    tenant_restore(tenant_id=victim.tenant.id, backup_file=backup)
    with victim.triggers_off() as superuser:
        superuser.execute("DELETE FROM audit_logs WHERE sequence > 4")
        victim.recompute(superuser, 4)
    report = victim.report()
    assert kinds(report) == [Kind.ROLLED_BACK]


def test_a_restore_claimed_by_the_tenants_log_alone_explains_nothing(victim: Victim, backup: str) -> None:
    """A rolled-back log claims a restore, but only an entry in the control log can explain the rollback."""
    with victim.triggers_off() as superuser:
        superuser.execute("DELETE FROM audit_logs WHERE sequence > 3")
        victim.recompute(superuser, 3)
    with victim.log.as_superuser() as superuser:
        _claim(superuser, str(uuid.uuid4()))
    assert kinds(victim.report()) == [Kind.ROLLED_BACK]


def test_a_restore_of_another_tenant_explains_nothing(victim: Victim, backup: str) -> None:
    operation = str(uuid.uuid4())
    with victim.triggers_off() as superuser:
        superuser.execute("DELETE FROM audit_logs WHERE sequence > 3")
        victim.recompute(superuser, 3)
    with victim.log.as_superuser() as superuser:
        restored = _claim(superuser, operation)
    with transaction.atomic(using="default"):
        record(
            using="default",
            action="tenant.restore.complete",
            resource_type="tenant",
            resource_id="another",
            details={"operation": operation, "replaced": None, "restored": restored},
        )
    assert kinds(victim.report()) == [Kind.ROLLED_BACK]


def test_a_copy_starts_a_new_life(victim: Victim, backup: str) -> None:
    report = tenant_clone(tenant_id=victim.tenant.id, new_id=f"copy-{uuid.uuid4().hex[:8]}", backup_file=backup)
    copy = Tenant.objects.get(pk=report.tenant_id)
    try:
        audit_anchor()
        _control, found = audit_verify(tenant_id=copy.id)
        assert (found.problems, found.anchors, found.explained) == ([], 1, 0)
        assert copy.chain_identity == victim.tenant.identity
    finally:
        remove(copy)


def _claim(superuser: psycopg.Connection, operation: str) -> dict[str, object]:
    """Append an entry like that of a restore; return what it says was restored."""
    [(sequence, hash_there)] = superuser.execute("SELECT sequence, hash FROM audit_chain_heads").fetchall()
    restored = {"sequence": sequence, "hash": hash_there}
    superuser.execute(
        "INSERT INTO audit_logs (user_id, action, resource_type, resource_id, details)"
        " VALUES ('operator:eve', 'tenant.restore', 'tenant', 'x', %s)",
        [Jsonb({"operation": operation, "replaced": None, "restored": restored})],
    )
    return restored


# -- The decision by itself --------------------------------------------------------------------------------------

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def anchor(sequence: int, hour: float, hash_then: str = "a") -> Anchor:
    return Anchor("t", uuid.UUID(int=1), sequence, hash_then, "", BEGUN + timedelta(hours=hour))


def restored(hour: float, replaced: int, back_to: int) -> Restored:
    return Restored(str(hour), BEGUN + timedelta(hours=hour), ChainHead(replaced, "a"), ChainHead(back_to, "b"))


@pytest.mark.parametrize(
    ("found", "restores", "on_path", "explained"),
    [
        # Nothing was ever restored.
        (anchor(5, 1), [], [], False),
        # Of the replaced state: after the restored point, before it, and after the state's own end.
        (anchor(7, 1), [restored(2, 10, 5)], [True], True),
        (anchor(5, 1), [restored(2, 10, 5)], [True], False),
        (anchor(11, 1), [restored(2, 10, 5)], [True], False),
        # At its end: only with the hash of its last entry.
        (anchor(10, 1), [restored(2, 10, 5)], [True], True),
        (anchor(10, 1, "x"), [restored(2, 10, 5)], [True], False),
        # Taken after the restore.
        (anchor(7, 3), [restored(2, 10, 5)], [True], False),
        # The log is not the one that the restore produced.
        (anchor(7, 1), [restored(2, 10, 5)], [False], False),
        # Undone: the state in between is not on the path, the one before it is.
        (anchor(7, 3), [restored(2, 10, 5), restored(4, 8, 10)], [False, True], True),
        (anchor(9, 3), [restored(2, 10, 5), restored(4, 8, 10)], [False, True], False),
        (anchor(7, 1), [restored(2, 10, 5), restored(4, 8, 10)], [False, True], False),
        # Undone and undone again.
        (anchor(7, 3), [restored(2, 10, 5), restored(4, 8, 10), restored(6, 12, 8)], [True, False, True], False),
        (anchor(7, 1), [restored(2, 10, 5), restored(4, 8, 10), restored(6, 12, 8)], [True, False, True], True),
        (anchor(11, 5), [restored(2, 10, 5), restored(4, 8, 10), restored(6, 12, 8)], [True, False, True], True),
    ],
)
def test_what_a_restore_explains(found: Anchor, restores: list[Restored], on_path: list[bool], explained: bool) -> None:
    assert is_explained(found, restores, on_path) is explained
