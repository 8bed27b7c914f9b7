"""Superseded rows of the control database are reported as removed only if they are; statistics keep no such values."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connections
from django.db.models import Model
from pytest_django import Settings

from runs.summaries.models import RunSummary
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.models import (
    Backup,
    BatchTenant,
    Erasure,
    MigrationBatch,
    OperationRequest,
    Restore,
    Tenant,
    TenantOperation,
)
from tenants.pitr.dead_rows import OWNER, superseded_remove
from tenants.retention.prune import backup_prune
from tests.tenants.support.erased import forge, forget_erasure


def control_url(settings: Settings) -> dict[str, str]:
    control = settings.DATABASES["default"]
    return {
        "host": control["HOST"],
        "port": str(control["PORT"]),
        "user": control["USER"],
        "password": control["PASSWORD"],
        "dbname": str(connections["default"].settings_dict["NAME"]),
    }


def test_what_an_older_transaction_still_sees_is_not_called_rewritten(tenant: Tenant, settings: Settings) -> None:
    with psycopg.connect(**control_url(settings)) as reader:  # type: ignore[arg-type]
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # A snapshot, and no lock on any of the tables.
        reader.execute("SELECT count(*) FROM audit_anchors")
        row = tenant_delete(tenant_id=tenant.id)
        assert Erasure.objects.get(pk=row.pk).rewritten_at is None
        [check] = erasures_verify(tenant_id=tenant.id)
        assert "may still contain old versions of its rows" in " ".join(check.remaining)
        assert any(one.kind == "superseded rows" for one in backup_prune())
    assert [one for one in backup_prune() if one.kind == "superseded rows"] == []
    assert Erasure.objects.get(pk=row.pk).rewritten_at is not None
    forget_erasure(row)


def test_who_does_not_own_the_tables_rewrites_nothing(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    row = tenant_delete(tenant_id=tenant.id)
    forge(row, "rewritten_at = NULL")
    without = {alias: config for alias, config in connections.settings.items() if alias != OWNER}
    with monkeypatch.context() as patch:
        patch.setattr(connections, "_settings", without)
        patch.setitem(connections.__dict__, "settings", without)
        assert not superseded_remove()
    assert Erasure.objects.get(pk=row.pk).rewritten_at is None
    assert superseded_remove()
    forget_erasure(row)


@pytest.mark.parametrize(
    ("model", "column"),
    [
        (Tenant, "name"),
        (Backup, "manifest"),
        (Backup, "error"),
        (Backup, "verify_error"),
        (Restore, "report"),
        (TenantOperation, "error"),
        (OperationRequest, "error"),
        (MigrationBatch, "error"),
        (BatchTenant, "error"),
        (RunSummary, "error"),
    ],
)
def test_statistics_keep_no_values_of_columns_that_an_erasure_clears(
    model: type[Model], column: str, settings: Settings
) -> None:
    with psycopg.connect(**control_url(settings)) as connection:  # type: ignore[arg-type]
        found = connection.execute(
            "SELECT attstattarget FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
            [model._meta.db_table, column],
        ).fetchone()
    assert found == (0,)
