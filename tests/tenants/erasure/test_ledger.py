"""The ledger of erasures: its guards keep rows from being removed, and what is final in them from being changed.

Changes that bypass the guards are reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from audit.verification.verify import audit_verify
from tenants.erasure.delete import tenant_delete
from tenants.erasure_ledger import ledger_problems
from tenants.lifecycle.create import tenant_create
from tenants.models import Erasure, ErasurePhase, Tenant
from tests.audit.attacks import put_back
from tests.audit.audited import as_superuser
from tests.audit.conftest import Log
from tests.tenants.support.erased import forge, forget_erasure

MAY_CHANGE = {
    *("phase", "accepts", "found", "certificate", "digest", "completed_at"),
    *("rewritten_at", "rewritten_segment"),
}


@pytest.fixture
def erased(control_log: Log) -> Iterator[Erasure]:
    with put_back(control_log):
        row = tenant_delete(tenant_id=tenant_create(name="ledger").id)
        yield row
        forget_erasure(row)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Erasure]:
    """Yield an erasure for tests that change nothing: what they try is refused or rolled back."""
    row = tenant_delete(tenant_id=tenant_create(name="guarded").id)
    yield row
    forget_erasure(row)


def told() -> list[str]:
    """Return what `audit verify` reports about the control log, its guards and the ledger."""
    [control] = [one for one in audit_verify() if one.log == "control"]
    return [one.message for one in control.problems]


def test_untouched_ledger_has_no_problems(erased: Erasure) -> None:
    assert told() == []


@pytest.mark.parametrize(
    "statement",
    [
        *("DELETE FROM erasures", "TRUNCATE erasures", "TRUNCATE erasures CASCADE", "DROP TABLE erasures"),
        *("UPDATE erasures SET tenant_id = 'x'", "UPDATE erasures SET identity = gen_random_uuid()"),
        *("UPDATE erasures SET server = 'x'", "UPDATE erasures SET operation_id = gen_random_uuid()"),
        "ALTER TABLE erasures DISABLE TRIGGER freeze_erasure",
        "CREATE OR REPLACE FUNCTION freeze_erasure() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SET session_replication_role = replica",
    ],
)
def test_the_application_has_no_privilege_to(guarded: Erasure, control_log: Log, statement: str) -> None:
    with control_log.as_app() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement)
    assert Erasure.objects.get(pk=guarded.pk).digest == guarded.digest


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("phase", "closed"), ("accepts", '["lost backups"]'), ("found", "{}"), ("certificate", None)),
        *(("certificate", '{"forged": true}'), ("digest", "0" * 64), ("completed_at", None)),
        *(("completed_at", "2020-01-01Z"), ("rewritten_at", None), ("rewritten_segment", "")),
    ],
)
def test_application_cannot_change_a_completed_erasure(
    guarded: Erasure, control_log: Log, column: str, value: str | None
) -> None:
    assert Erasure.objects.get(pk=guarded.pk).rewritten_at is not None
    change = sql.SQL("UPDATE erasures SET {} = %s WHERE operation_id = %s").format(sql.Identifier(column))
    with control_log.as_app() as app, pytest.raises(psycopg.errors.RaiseException, match="does not allow UPDATE"):
        app.execute(change, [value, guarded.pk])


def test_no_column_is_forgotten(guarded: Erasure, control_log: Log) -> None:
    """Each column, even one that is added later, is listed as changeable by the application or as fixed."""
    columns = {field.column for field in Erasure._meta.get_fields() if hasattr(field, "column")}
    with control_log.as_app() as app:
        mine = app.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'erasures'::regclass AND attnum > 0"
            " AND has_column_privilege(attrelid, attnum, 'UPDATE')"
        ).fetchall()
    assert {name for (name,) in mine} == MAY_CHANGE
    fixed = {"operation_id", "tenant_id", "identity", "chain_identity", "server", "database", "role"}
    assert columns == MAY_CHANGE | fixed


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM erasures", "does not allow DELETE"),
        ("TRUNCATE erasures", "does not allow TRUNCATE"),
        ("UPDATE erasures SET server = 'x'", "does not allow UPDATE of whose erasure it is"),
        ("UPDATE erasures SET certificate = NULL", "does not allow UPDATE of an erasure that is completed"),
    ],
)
def test_plain_statements_of_a_superuser_are_refused(
    guarded: Erasure, control_log: Log, statement: str, message: str, role: str
) -> None:
    with control_log.as_superuser() as superuser:
        superuser.execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg.errors.RaiseException, match=message):
            superuser.execute(statement)
        superuser.rollback()


def test_unfinished_deletion_is_in_the_ledger(erased: Erasure, control_log: Log) -> None:
    """The application can record the progress of an unfinished deletion, as `tenants.erasure.steps` does."""
    forge(erased, "completed_at = NULL")
    with control_log.as_app() as app:
        app.execute("UPDATE erasures SET phase = 'listed', found = '{}' WHERE operation_id = %s", [erased.pk])
        app.rollback()


@pytest.mark.parametrize("what", ["deleted", "renamed", "certificate", "digest", "reopened", "forged"])
def test_changes_past_the_guards_are_reported(erased: Erasure, what: str) -> None:
    differs = f"The ledger's certificate of {erased.tenant_id}, or its sha256, does not match the control log."
    expected = {
        "deleted": f"The erasure of {erased.tenant_id} is missing from the ledger.",
        "renamed": f"The erasure of {erased.tenant_id} is missing from the ledger.",
        "certificate": differs,
        "digest": differs,
        "reopened": f"The control log and the ledger disagree on whether {erased.tenant_id} was erased.",
        "forged": "The control log has no entry for the erasure of nobody.",
    }[what]
    if what == "deleted":
        with as_superuser() as superuser:
            superuser.execute("ALTER TABLE erasures DISABLE TRIGGER prevent_audit_log_modification")
            superuser.execute("DELETE FROM erasures WHERE operation_id = %s", [erased.pk])
            superuser.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER prevent_audit_log_modification")
    elif what == "renamed":
        forge(erased, "tenant_id = 'somebody-else'")
    elif what == "certificate":
        forge(erased, "certificate = '{}'")
    elif what == "digest":
        forge(erased, "digest = repeat('0', 64)")
    elif what == "reopened":
        forge(erased, "completed_at = NULL, phase = %s", ErasurePhase.LISTED.value)
    else:
        _insert_by_the_application(erased)
    assert told() == [expected]
    assert expected in list(ledger_problems())


def _insert_by_the_application(like: Erasure) -> None:
    """Insert a row as the application, which has the right to. Such a row blocks a restore, although no one requested
    an erasure.
    """
    from uuid import uuid4

    from tenants.models import TenantOperation

    operation = TenantOperation.objects.create(tenant_id="nobody", kind="delete", user_id="x", status="undone")
    Erasure.objects.create(
        operation=operation,
        tenant_id="nobody",
        identity=uuid4(),
        chain_identity=uuid4(),
        server=like.server,
        database="nobody",
        role="nobody",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE erasures DISABLE TRIGGER freeze_erasure",
        "ALTER TABLE erasures ENABLE TRIGGER prevent_audit_log_truncation",
        "GRANT DELETE ON erasures TO PUBLIC",
        "GRANT UPDATE (tenant_id) ON erasures TO PUBLIC",
        "DROP TRIGGER prevent_audit_log_modification ON erasures",
        "CREATE OR REPLACE FUNCTION freeze_erasure() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_guards_of_the_ledger_are_watched(control_log: Log, statement: str) -> None:
    before = _definition()
    with control_log.as_superuser() as superuser:
        superuser.execute(statement)
    try:
        assert any("erasure" in one for one in told())
    finally:
        with control_log.as_superuser() as superuser:
            superuser.execute("DROP TRIGGER IF EXISTS prevent_audit_log_modification ON erasures")
            superuser.execute(
                "CREATE TRIGGER prevent_audit_log_modification BEFORE DELETE ON public.erasures FOR EACH ROW"
                " EXECUTE FUNCTION public.prevent_audit_log_modification('DELETE')"
            )
            superuser.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER prevent_audit_log_modification")
            superuser.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER prevent_audit_log_truncation")
            superuser.execute("ALTER TABLE erasures ENABLE ALWAYS TRIGGER freeze_erasure")
            superuser.execute("REVOKE DELETE, UPDATE (tenant_id) ON erasures FROM PUBLIC")
            superuser.execute(before)
    assert told() == []


def _definition() -> bytes:
    with as_superuser() as superuser:
        row = superuser.execute("SELECT pg_get_functiondef('public.freeze_erasure()'::regprocedure)").fetchone()
    assert row is not None
    return str(row[0]).encode()


def test_emptying_the_ledger_does_not_allow_a_restore(erased: Erasure, control_log: Log) -> None:
    with control_log.as_app() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("DELETE FROM erasures WHERE tenant_id = %s", [erased.tenant_id])
    assert Tenant.objects.get(pk=erased.tenant_id).status == "deleted"
