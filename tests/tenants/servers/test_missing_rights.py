"""No operation starts if the server's administrator lacks a right; the message names the right and how to grant it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import scalar_row

from config.base.errors import SeoGenError
from config.stack.postgres import ADMIN
from tenants.erasure.delete import tenant_delete, tenant_delete_check
from tenants.errors import ServerError
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.rotate import tenant_rotate
from tenants.models import DatabaseServer, Erasure, Tenant, TenantOperation, database_prefix
from tenants.pitr.status import cluster_statuses
from tenants.restore.drill import tenant_drill
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.schema.inspection import database_of
from tenants.transfer.clone import tenant_clone
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.servers.test_rights import call_setup
from tests.tenants.support.backups import back_up

pytestmark = pytest.mark.usefixtures("forgotten")

NEEDED = {
    f"ALTER ROLE {ADMIN} NOCREATEDB": ("CREATEDB", f'ALTER ROLE "{ADMIN}" CREATEDB;'),
    f"ALTER ROLE {ADMIN} NOCREATEROLE": ("CREATEROLE", f'ALTER ROLE "{ADMIN}" CREATEROLE;'),
    f"REVOKE pg_signal_backend FROM {ADMIN}": ("pg_signal_backend", f'GRANT pg_signal_backend TO "{ADMIN}";'),
}


@pytest.fixture
def resident(second_server: DatabaseServer, make_tenant: MakeTenant) -> Tenant:
    """Return a tenant on a server whose administrator's rights the tests revoke."""
    return make_tenant(server_name=second_server.name)


@pytest.fixture
def superuser(second_server: DatabaseServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(superuser_url(second_server.admin_url), autocommit=True) as connection:
        yield connection


def roles_on(server: DatabaseServer) -> list[str]:
    with psycopg.connect(server.admin_url, row_factory=scalar_row) as connection:
        return connection.execute("SELECT rolname FROM pg_roles ORDER BY rolname").fetchall()


def changed(tenant: Tenant) -> tuple[object, ...]:
    """Return the rows and roles that an operation must not change until it is known to be possible."""
    assert tenant.server is not None
    return (
        list(Tenant.objects.filter(server=tenant.server).order_by("pk").values_list("pk", "status")),
        list(TenantOperation.objects.order_by("pk").values_list("pk", "status")),
        list(Erasure.objects.order_by("pk").values_list("pk")),
        roles_on(tenant.server),
    )


def test_no_operation_begins_without_a_right(
    resident: Tenant, superuser: psycopg.Connection, tmp_path: Path, next_release: NextRelease
) -> None:
    file, bundle = back_up(resident, tmp_path), str(tmp_path / "its.bundle")
    tenant_export(tenant_id=resident.id, output=bundle)
    tenant_restore(tenant_id=resident.id, backup_file=file)
    new_id, server = f"{resident.id}-2", resident.server_id
    operations: dict[str, Callable[[], object]] = {
        "create": lambda: tenant_create(name=new_id, server_name=server),
        "restore": lambda: tenant_restore(tenant_id=resident.id, backup_file=file),
        "undo": lambda: tenant_restore_undo(tenant_id=resident.id),
        "--as": lambda: tenant_clone(tenant_id=resident.id, new_id=new_id, backup_file=file),
        "import": lambda: tenant_import(file=bundle, new_id=new_id, server_name=server),
        "drill": lambda: tenant_drill(tenant_id=resident.id, backup_file=file),
        "delete": lambda: tenant_delete(tenant_id=resident.id),
        "check before delete": lambda: tenant_delete_check(tenant_id=resident.id),
    }
    next_release.add("0003_plain")
    for taken, (right, grant) in NEEDED.items():
        superuser.execute(taken.encode())
        before = changed(resident)
        for name, operation in operations.items():
            with pytest.raises(SeoGenError) as refused:
                operation()
            assert f"lacks {right}." in str(refused.value) and grant in str(refused.value), name
        [rotation] = tenant_rotate(tenant_id=resident.id)
        assert f"lacks {right}." in rotation.problem
        with next_release.active():
            report = tenant_migrate(tenant_id=resident.id)
        assert report.outcome == "rolled_back" and any(f"lacks {right}." in one for one in report.problems)
        assert changed(resident) == before
        superuser.execute(grant.encode())
    assert tenant_delete(tenant_id=resident.id).certificate is not None


def test_roles_of_another_administrator_are_named_with_what_gives_them_to_this_one(
    resident: Tenant, second_server: DatabaseServer, superuser: psycopg.Connection
) -> None:
    """This happens after a change of administrator, on PostgreSQL 16 and newer."""
    superuser.execute("CREATE ROLE successor LOGIN CREATEDB CREATEROLE PASSWORD 'p'")
    superuser.execute("GRANT pg_signal_backend, pg_monitor TO successor")
    superuser.execute("GRANT CONNECT ON DATABASE postgres TO successor")
    second_server.admin_url = re.sub(r"//.*@", "//successor:p@", second_server.admin_url)
    second_server.save()
    own = sorted([f"{database_prefix()}_owner", f"{database_prefix()}_tenant", database_of(resident)])
    roles = ", ".join(f'"{role}"' for role in own)
    grant = f'GRANT {roles} TO "successor" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;'
    resident.refresh_from_db()
    before = changed(resident)
    with pytest.raises(ServerError) as refused:
        tenant_delete(tenant_id=resident.id)
    assert str(refused.value) == (
        f"The administrator of database server second lacks ADMIN OPTION on 3 roles."
        f" As a superuser, run in the database of the administrator's URL: {grant}"
    )
    assert changed(resident) == before
    assert grant in call_setup()
    [status] = cluster_statuses(server_name="second")
    run = f"As a superuser, run in the database of the administrator's URL: {grant}"
    assert f"Its administrator lacks ADMIN OPTION on 3 roles. {run}" in status.problems
    superuser.execute(grant.encode())
    # Not even set-up has to be run first.
    assert tenant_delete(tenant_id=resident.id).certificate is not None
    assert "ADMIN OPTION on" not in call_setup()
