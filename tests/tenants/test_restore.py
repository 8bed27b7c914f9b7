"""Backup, destroy, restore, undo: with real dumps, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenants.models import Tenant
from tenants.services import tenant_backup, tenant_restore, tenant_restore_undo
from tests.tenants.filled import add_run, destroy_rows, everything_of, without_audit


def back_up(tenant: Tenant, folder: Path | str, **options: Any) -> str:
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(folder), **options)
    assert outcome.backup is not None, outcome.problem
    return f"{outcome.backup.place}/{outcome.backup.name}"


@pytest.mark.parametrize("dump_format", ["custom", "plain"])
def test_it_gives_back_exactly_what_was(tenant: Tenant, tmp_path: Path, dump_format: str) -> None:
    for _ in range(3):
        add_run(tenant)
    before = everything_of(tenant)
    file = back_up(tenant, tmp_path, dump_format=dump_format)
    destroy_rows(tenant)
    destroyed = everything_of(tenant)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    print(report)
    after = everything_of(tenant)
    assert without_audit(after) == without_audit(before)
    report = tenant_restore_undo(tenant_id=tenant.id)
    assert without_audit(everything_of(tenant)) == without_audit(destroyed)
    report = tenant_restore_undo(tenant_id=tenant.id)
    assert without_audit(everything_of(tenant)) == without_audit(before)
