"""How clones and imported tenants are named, and how a refused clone is reported."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from pytest_django import Settings

from config.base.errors import shown_on_page
from tenants.errors import RestoreRefused
from tenants.models import DatabaseServer, Tenant
from tenants.naming import NAME_MAX_LENGTH
from tenants.schema.inspection import database_of
from tenants.servers.session import owner_url
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tenants.types import Progress
from tests.support.tenant_fixtures import remove
from tests.tenants.support.backups import back_up
from tests.tenants.support.created import new_id


def test_a_long_name_is_cut_so_that_the_id_fits(tenant: Tenant, tmp_path: Path) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name=tenant.id + "x" * (NAME_MAX_LENGTH - len(tenant.id)))
    cloned, imported = new_id(), new_id()
    tenant_clone(tenant_id=tenant.id, new_id=cloned, backup_file=back_up(tenant, tmp_path))
    bundle = str(tmp_path / "bundle.tar")
    tenant_export(tenant_id=tenant.id, output=bundle)
    tenant_import(file=bundle, new_id=imported)
    for copy_id in (cloned, imported):
        copy = Tenant.objects.get(pk=copy_id)
        assert len(copy.name) == NAME_MAX_LENGTH and copy.name.endswith(f"xx ({copy_id})")
        remove(copy)


def test_a_refused_clone_was_not_created(tenant: Tenant) -> None:
    copy_id = new_id()
    with pytest.raises(RestoreRefused) as refusal:
        tenant_clone(tenant_id=tenant.id, new_id=copy_id, backup_file="/nope/nowhere.dump")
    assert str(refusal.value) == (
        f"Tenant {copy_id} was not created. /nope/nowhere.dump does not exist. Nothing was left behind."
    )


def test_a_clone_whose_database_is_locked_was_not_created(tenant: Tenant, tmp_path: Path, settings: Settings) -> None:
    copy_id, file = new_id(), back_up(tenant, tmp_path)
    settings.DATABASE_LIMITS = replace(settings.DATABASE_LIMITS, lock_timeout_s=0.2)
    with ExitStack() as stack:

        def lock(progress: Progress) -> None:
            if progress.step == "identity":
                made = Tenant.objects.get(pk=copy_id)
                holder = psycopg.connect(owner_url(made.require_server(), database_of(made)))
                stack.callback(holder.close)
                holder.execute("LOCK TABLE runs, steps, tenant_identity")

        with pytest.raises(RestoreRefused, match=f"Tenant {copy_id} was not created.*A lock was not granted"):
            tenant_clone(tenant_id=tenant.id, new_id=copy_id, backup_file=file, on_progress=lock)
    assert not Tenant.objects.filter(pk=copy_id).exists()


def test_a_full_default_server_is_reported_without_an_option_that_a_clone_lacks(tenant: Tenant, tmp_path: Path) -> None:
    file, default = back_up(tenant, tmp_path), DatabaseServer.objects.filter(is_default=True)
    [before] = default.values_list("capacity", flat=True)
    server_id = tenant.server_id
    Tenant.objects.filter(pk=tenant.pk).update(server=None)
    default.update(capacity=0)
    try:
        with pytest.raises(
            RestoreRefused, match=r"is full: its capacity is 0 tenants\. Raise its capacity in the admin\.$"
        ):
            tenant_clone(tenant_id=tenant.id, new_id=new_id(), backup_file=file)
        with shown_on_page(), pytest.raises(RestoreRefused, match=r"Raise its capacity under “Database servers”\.$"):
            tenant_clone(tenant_id=tenant.id, new_id=new_id(), backup_file=file)
    finally:
        default.update(capacity=before)
        Tenant.objects.filter(pk=tenant.pk).update(server=server_id)
