"""A tenant's role gets a new password and its settings back: work continues, and its older sessions end."""

from __future__ import annotations

import json
import threading
from io import StringIO
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from audit.control.models import ControlAuditLog
from runs.models import Run
from tenants.errors import TenantNotActive, TenantUnfinished, TenantUnreachable, UnknownTenant
from tenants.lifecycle.rotate import Rotation, tenant_rotate
from tenants.lifecycle.status import TenantHealth, tenant_statuses
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import DatabaseServer, OperationStatus, Tenant, TenantOperation
from tenants.routing.context import tenant_context
from tenants.servers.session import logins, parse_location, with_password
from tenants.types import Progress
from tenants.unfinished import tenant_recover
from tests.tenants.support.killed import die_at


def health_of(tenant: Tenant) -> TenantHealth:
    [health] = tenant_statuses(tenant_id=tenant.id, check=True)
    return health


def actions_of(tenant: Tenant) -> list[str]:
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id, action__startswith="tenant.rotate")
    return list(entries.order_by("id").values_list("action", flat=True))


def assert_rotated(tenant: Tenant) -> None:
    """Check that only a new password works, and that the operation is recorded and finished."""
    old = tenant.database_url
    tenant.refresh_from_db()
    assert parse_location(tenant.database_url).password != parse_location(old).password
    assert urlsplit(tenant.database_url).hostname == urlsplit(old).hostname
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old)
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).count() == 0
    assert health_of(tenant).problem is None
    assert actions_of(tenant) == ["tenant.rotate", "tenant.rotate.complete"]
    assert TenantOperation.objects.get(tenant_id=tenant.id, kind="rotate").status == OperationStatus.COMPLETED


def test_a_tenant_gets_a_new_password_and_the_old_one_opens_nothing(tenant: Tenant) -> None:
    assert tenant_rotate(tenant_id=tenant.id) == [Rotation(tenant.id)]
    assert_rotated(tenant)
    entries = ControlAuditLog.objects.filter(resource_id=tenant.id, action__startswith="tenant.rotate")
    password = parse_location(tenant.database_url).password
    assert all(password not in json.dumps(entry.details) for entry in entries)


def test_changed_password_is_reported_and_reset(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'of my own'")
    health = health_of(tenant)
    assert health.reachable is False and health.problem is not None
    assert "password authentication failed" in health.problem
    assert (
        f"`seo-gen tenant rotate --tenant-id {tenant.id}` resets the tenant's role and its password." in health.problem
    )
    tenant_rotate(tenant_id=tenant.id)
    assert_rotated(tenant)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(with_password(tenant.database_url, "of my own"))


def test_changed_settings_are_reported_and_reset(tenant: Tenant) -> None:
    role = parse_location(tenant.database_url).role
    with psycopg.connect(tenant.database_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE CURRENT_USER SET statement_timeout = 0")
        connection.execute("ALTER ROLE CURRENT_USER RESET lock_timeout")
        connection.execute(f"ALTER ROLE CURRENT_USER IN DATABASE \"{role}\" SET work_mem = '1GB'")
    assert health_of(tenant).role_changes == [
        "The role lacks the setting lock_timeout=60000ms.",
        "The role lacks the setting statement_timeout=300000ms.",
        "The role has an unexpected setting: statement_timeout=0.",
        "The role has an unexpected setting: work_mem=1GB.",
    ]
    tenant_rotate(tenant_id=tenant.id)
    assert_rotated(tenant)
    assert health_of(tenant).role_changes == []


def test_administrators_changes_are_reported_and_reset(tenant: Tenant) -> None:
    role = parse_location(tenant.database_url).role
    with psycopg.connect(DatabaseServer.objects.get(pk="main").admin_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE \"{role}\" CONNECTION LIMIT -1 VALID UNTIL '2999-01-01'")
    assert health_of(tenant).role_changes == [
        "The role has no connection limit; it should be 20.",
        "The role's password has an expiry time.",
    ]
    tenant_rotate(tenant_id=tenant.id)
    assert_rotated(tenant)


def test_prepared_transactions_are_reported_and_rolled_back(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url) as connection:
        connection.execute("INSERT INTO runs (status) VALUES ('pending')")
        connection.execute("PREPARE TRANSACTION 'seo-gen:looks:ours'")
    assert health_of(tenant).role_changes == ["The role has 1 prepared transaction."]
    # Its name starts like ours, but it is not mistaken for ours.
    assert tenant_recover() == []
    tenant_rotate(tenant_id=tenant.id)
    assert_rotated(tenant)
    entry = ControlAuditLog.objects.get(resource_id=tenant.id, action="tenant.rotate.complete")
    assert entry.details is not None and entry.details["prepared_rolled_back"] == 1


def test_old_session_is_ended_despite_an_open_transaction(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url) as connection:
        connection.execute("SELECT 1")
        tenant_rotate(tenant_id=tenant.id, grace_s=0)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT 1")
    assert_rotated(tenant)


def test_a_transaction_that_ends_in_time_is_left_to_end(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database_url) as connection:
        connection.execute("INSERT INTO runs (status) VALUES ('pending') RETURNING id")
        recorded = threading.Event()

        def rotate() -> None:
            tenant_rotate(
                tenant_id=tenant.id,
                grace_s=600,
                on_progress=lambda progress: recorded.set() if progress.step == "password" else None,
            )
            connections.close_all()

        rotation = threading.Thread(target=rotate)
        rotation.start()
        assert recorded.wait(60)
        connection.commit()
        # It is idle now, so it is ended long before its time is up.
        rotation.join(60)
        assert not rotation.is_alive()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    tenant.refresh_from_db()
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).count() == 1


def test_work_continues_during_a_rotation(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads enter the tenant continuously, as workers do, while the password changes five times.

    The rotation tolerates idle sessions for longer than usual, so that the threads close their old connections
    themselves even on a slow machine.
    """
    monkeypatch.setattr(logins, "IDLE_S", 600)
    over, problems, entered = threading.Event(), [], []

    def work() -> None:
        try:
            while not over.is_set():
                with tenant_context(tenant.id) as alias:
                    entered.append(Run.objects.using(alias).count())
                    # A session that begins after the password has changed, but before the old sessions are listed,
                    # counts as old too: the rotation waits for its end.
                    connections[alias].connection.close()
                over.wait(0.005)
        except Exception as error:
            problems.append(error)
        finally:
            connections.close_all()

    def busy(progress: Progress) -> None:
        if progress.step in ("password", "done"):
            before = len(entered)
            while len(entered) < before + 20 and not problems:
                over.wait(0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        assert tenant_rotate(tenant_id=tenant.id, grace_s=600, on_progress=busy) == [Rotation(tenant.id)]
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.mark.chaos
@pytest.mark.parametrize("step", ["begin", "record", "password", "sessions", "prepared", "done"])
def test_killed_at_a_step(tenant: Tenant, step: str) -> None:
    with psycopg.connect(tenant.database_url) as connection:
        connection.execute("INSERT INTO runs (status) VALUES ('pending')")
        connection.execute("PREPARE TRANSACTION 'by hand'")
    die_at(step, "tenant_rotate", tenant_id=tenant.id, grace_s=0)
    if step == "begin":
        # Nothing was recorded, so nothing was done.
        assert actions_of(tenant) == [] and tenant_recover() == []
        with tenant_context(tenant):
            pass
        tenant_rotate(tenant_id=tenant.id)
    elif step != "done":
        with pytest.raises(TenantUnfinished, match="the operation “rotate” has not finished"):
            tenant_suspend(tenant_id=tenant.id)
        assert [(one.tenant_id, one.kind, one.outcome) for one in tenant_recover()] == [
            (tenant.id, "rotate", "finished")
        ]
    assert tenant_recover() == []
    assert_rotated(tenant)


def test_unreachable_server_is_named_and_nothing_changes(tenant: Tenant) -> None:
    away = DatabaseServer.objects.create(name=f"away-{tenant.id}", admin_url="postgresql://a:secret@127.0.0.1:9/x")
    Tenant.objects.filter(pk=tenant.pk).update(server=away)
    [rotation] = tenant_rotate(tenant_id=tenant.id)
    assert away.name in rotation.problem and "secret" not in rotation.problem
    Tenant.objects.filter(pk=tenant.pk).update(server="main")
    away.delete()
    old = tenant.database_url
    tenant.refresh_from_db()
    assert tenant.database_url == old and actions_of(tenant) == []
    with tenant_context(tenant):
        pass


def test_refusal_by_the_server_records_nothing(tenant_pair: tuple[Tenant, Tenant]) -> None:
    """An administrator without CREATEROLE cannot change the role's password."""
    tenant, other = tenant_pair
    weak = DatabaseServer.objects.create(name=f"weak-{tenant.id}", admin_url=other.database_url)
    Tenant.objects.filter(pk=tenant.pk).update(server=weak)
    [rotation] = tenant_rotate(tenant_id=tenant.id)
    assert "lacks CREATEDB, CREATEROLE, " in rotation.problem
    assert actions_of(tenant) == [] and tenant_recover() == []
    Tenant.objects.filter(pk=tenant.pk).update(server="main")
    weak.delete()
    assert health_of(tenant).problem is None


def test_a_suspended_tenant_stays_suspended(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    tenant_rotate(tenant_id=tenant.id)
    tenant.refresh_from_db()
    assert tenant.status == "suspended" and not tenant.is_active
    assert health_of(tenant).problem is None


def test_tenant_without_a_role_is_refused(tenant: Tenant) -> None:
    with pytest.raises(UnknownTenant):
        tenant_rotate(tenant_id="nobody")
    Tenant.objects.filter(pk=tenant.pk).update(status="restoring")
    with pytest.raises(TenantNotActive):
        tenant_rotate(tenant_id=tenant.id)
    Tenant.objects.filter(pk=tenant.pk).update(status="active")


@pytest.mark.usefixtures("empty_fleet")
def test_rotating_all_lists_failures(tenant_pair: tuple[Tenant, Tenant]) -> None:
    tenant, cut_off = tenant_pair
    away = DatabaseServer.objects.create(name=f"away-{tenant.id}", admin_url="postgresql://a:b@127.0.0.1:9/x")
    Tenant.objects.filter(pk=cut_off.pk).update(server=away)
    name = away.name
    shown, told = StringIO(), StringIO()
    with pytest.raises(CommandError, match=f"The password change did not finish for: {cut_off.id}."):
        call_command("tenant_rotate", "--all", "--grace=0", stdout=shown, stderr=told)
    Tenant.objects.filter(pk=cut_off.pk).update(server="main")
    away.delete()
    assert shown.getvalue() == f"The database role of tenant {tenant.id} has a new password.\n"
    assert name is not None and name in told.getvalue()
    assert_rotated(tenant)
    with pytest.raises(CommandError):
        call_command("tenant_rotate", "--all", "--grace=-1")


def test_a_wrong_password_is_not_tried_again_where_nothing_rotates(tenant: Tenant) -> None:
    wrong = Tenant.objects.get(pk=tenant.pk)
    wrong.database_url = with_password(wrong.database_url, "wrong")
    wrong.save(update_fields=["database_url"])
    with pytest.raises(TenantUnreachable, match="password authentication failed"), tenant_context(tenant) as alias:
        Run.objects.using(alias).count()
