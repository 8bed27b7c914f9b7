import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from audit.log.actor import current_actor
from audit.models import AuditLog
from prompts.models import Prompt
from tenants.errors import InvalidTenant, ServerError, TenantBusy, TenantError, TenantExists
from tenants.identity.models import TenantIdentity
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import DatabaseServer, OperationStatus, Tenant, TenantOperation, TenantStatus, database_prefix
from tenants.operations import tenant_lock
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession, parse_location
from tenants.types import Progress
from tests.support import preloaded
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.created import new_id, tenants_objects


def test_a_new_tenant_is_active_and_its_database_says_whose_it_is(make_tenant: MakeTenant) -> None:
    tenant = make_tenant(name=f"Customer {new_id()}")
    assert tenant.status == TenantStatus.ACTIVE and tenant.is_active
    with tenant_context(tenant) as alias:
        row = TenantIdentity.objects.using(alias).get()
        assert (row.tenant_id, row.identity) == (tenant.id, tenant.identity)
        assert set(Prompt.objects.using(alias).filter(is_active=True).values_list("step", flat=True)) == {
            "keyword_analysis",
            "outline",
            "draft",
            "final",
        }
        entry = AuditLog.objects.using(alias).get()
        assert (entry.action, entry.resource_id, entry.user_id) == ("tenant.create", tenant.id, current_actor().user_id)


def test_creation_is_recorded_before_it_acts_and_audited(make_tenant: MakeTenant) -> None:
    seen: list[tuple[str, str, str]] = []
    tenant_id = new_id()

    def watch(progress: Progress) -> None:
        operation = TenantOperation.objects.get(tenant_id=tenant_id)
        seen.append((progress.step, operation.status, Tenant.objects.get(pk=tenant_id).status))

    make_tenant(name=tenant_id, on_progress=watch)
    steps = [step for step, _, _ in seen]
    assert steps == ["template", "role", "database", "access", "identity", "active"]
    assert {entry[1:] for entry in seen[:-1]} == {("running", "provisioning")}
    assert seen[-1][1:] == ("completed", "active")
    entries = ControlAuditLog.objects.filter(resource_id=tenant_id).order_by("id")
    assert [entry.action for entry in entries] == ["tenant.create", "tenant.activate"]


def test_an_id_that_exists_is_refused(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    with pytest.raises(TenantExists, match=f"Tenant {tenant.id} already exists"):
        tenant_create(name="Somebody else", tenant_id=tenant.id)


def test_a_name_that_exists_is_refused_whatever_its_case(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    with pytest.raises(TenantExists, match="Another tenant is already named"):
        tenant_create(name=tenant.name.upper(), tenant_id=new_id())


def test_the_id_of_an_erased_tenant_is_never_used_again() -> None:
    tenant_id = new_id()
    tombstone = Tenant.objects.create(
        id=tenant_id, name=tenant_id, database_url="postgresql://gone/gone", status="deleted", is_active=False
    )
    with pytest.raises(TenantExists, match="belonged to an erased tenant and cannot be reused"):
        tenant_create(name=tenant_id)
    tombstone.delete()


def numbered(count: int) -> list[str]:
    """Return names that no id can be derived from."""
    return [f"株式会社さくら商店{uuid.uuid4().hex[:8]}" for _ in range(count)]


def number_of(tenant: Tenant) -> int:
    return int(tenant.id.removeprefix("tenant-"))


def test_a_name_without_latin_letters_gets_the_next_number(make_tenant: MakeTenant) -> None:
    first, second = (make_tenant(name=name) for name in numbered(2))
    assert number_of(second) == number_of(first) + 1


def test_the_number_of_an_erased_tenant_is_never_used_again(make_tenant: MakeTenant) -> None:
    first = make_tenant(name=numbered(1)[0])
    tombstone = Tenant.objects.create(
        id=f"tenant-{number_of(first) + 5}", name="", database_url="", status="deleted", is_active=False
    )
    assert number_of(make_tenant(name=numbered(1)[0])) == number_of(first) + 6
    tombstone.delete()


def test_a_numbered_creation_that_was_interrupted_is_finished_under_its_id(make_tenant: MakeTenant) -> None:
    (name,) = numbered(1)
    tenant = make_tenant(name=name)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.PROVISIONING)
    operation = TenantOperation.objects.filter(tenant_id=tenant.pk).latest("started_at")
    TenantOperation.objects.filter(pk=operation.pk).update(status=OperationStatus.RUNNING, finished_at=None)
    assert make_tenant(name=name).id == tenant.id
    with pytest.raises(TenantExists, match="Another tenant is already named"):
        tenant_create(name=name)


def test_numbered_tenants_that_are_created_at_the_same_time_get_ids_of_their_own(make_tenant: MakeTenant) -> None:
    def create(name: str) -> str:
        from django.db import connection

        try:
            return make_tenant(name=name).id
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as threads:
        ids = list(threads.map(create, numbered(3)))
    assert len(set(ids)) == 3


@pytest.mark.parametrize("name", ["", "Robert'); DROP TABLE tenants;--", "../../etc/passwd", "a\x00b"])
def test_a_hostile_name_makes_a_harmless_tenant_or_none(name: str, make_tenant: MakeTenant) -> None:
    before = Tenant.objects.count()
    try:
        tenant = make_tenant(name=name)
    except InvalidTenant:
        assert Tenant.objects.count() == before
    else:
        assert tenant.name == name
        with tenant_context(tenant) as alias:
            assert TenantIdentity.objects.using(alias).get().tenant_id == tenant.id


def test_creating_a_tenant_twice_at_the_same_time_gives_one(make_tenant: MakeTenant) -> None:
    tenant_id = new_id()

    def attempt(_: int) -> str:
        from django.db import connection

        try:
            make_tenant(name=tenant_id)
            return "created"
        except (TenantBusy, TenantExists) as refusal:
            return type(refusal).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(attempt, range(4)))
    assert outcomes.count("created") == 1
    assert len(tenants_objects(database_of(Tenant.objects.get(pk=tenant_id)))) == 2
    assert TenantOperation.objects.filter(tenant_id=tenant_id).count() == 1


def test_many_at_once_share_one_template(make_tenant: MakeTenant) -> None:
    def attempt(_: int) -> str:
        from django.db import connection

        try:
            return make_tenant().id
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(attempt, range(8)))) == 8


def test_a_server_that_is_down_is_named_and_nothing_is_left() -> None:
    tenant_id = new_id()
    server = DatabaseServer.objects.create(
        name=f"down-{tenant_id}", admin_url="postgresql://admin:secret@127.0.0.1:9/postgres"
    )
    with pytest.raises(ServerError) as refusal:
        tenant_create(name=tenant_id, server_name=server.name)
    assert server.name in refusal.value.message and "secret" not in str(refusal.value)
    assert not Tenant.objects.filter(pk=tenant_id).exists()
    assert not TenantOperation.objects.filter(tenant_id=tenant_id).exists()
    server.delete()


@pytest.mark.parametrize("url", ["postgresql://admin:top%secret@h/postgres", "postgresql://admin:secret@[h/postgres"])
def test_a_server_whose_url_cannot_be_read_is_named_and_its_password_is_not(url: str) -> None:
    server = DatabaseServer.objects.create(name=new_id(), admin_url=url)
    with pytest.raises(ServerError, match=f"URL of database server {server.name} is not valid") as refusal:
        tenant_create(name=new_id(), server_name=server.name)
    assert "secret" not in str(refusal.value)
    server.delete()


def test_an_unknown_full_or_closed_server_is_refused() -> None:
    with pytest.raises(ServerError, match="There is no database server 'nowhere'"):
        tenant_create(name=new_id(), server_name="nowhere")
    server = DatabaseServer.objects.create(name=new_id(), admin_url="postgresql://h/postgres", capacity=0)
    with pytest.raises(ServerError, match="is full"):
        tenant_create(name=new_id(), server_name=server.name)
    DatabaseServer.objects.filter(pk=server.pk).update(is_active=False, capacity=None)
    with pytest.raises(ServerError, match="does not accept new tenants"):
        tenant_create(name=new_id(), server_name=server.name)
    server.delete()


@pytest.mark.parametrize("step", ["role", "database", "access", "identity"])
def test_a_failure_at_any_step_leaves_nothing_half_made(step: str) -> None:
    tenant_id, before = new_id(), tenants_objects()

    def fail(progress: Progress) -> None:
        if progress.step == step:
            raise TenantError(f"made to fail at {step}")

    with pytest.raises(TenantError, match=f"made to fail at {step}"):
        tenant_create(name=tenant_id, on_progress=fail)
    assert tenants_objects() == before
    assert not Tenant.objects.filter(pk=tenant_id).exists()
    operation = TenantOperation.objects.get(tenant_id=tenant_id)
    assert (operation.status, operation.error) == (OperationStatus.UNDONE, f"made to fail at {step}")
    actions = ControlAuditLog.objects.filter(resource_id=tenant_id).order_by("id").values_list("action", flat=True)
    assert list(actions) == ["tenant.create", "tenant.create.undo"]


def test_busy_tenant_is_left_alone(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    program = (
        "import django, sys; django.setup()\n"
        "from tenants.lifecycle.suspend import tenant_suspend\n"
        "from tenants.errors import TenantBusy\n"
        "try: tenant_suspend(tenant_id=sys.argv[1])\n"
        "except TenantBusy as refusal: print(refusal)\n"
    )
    with tenant_lock(tenant.id):
        result = preloaded.run([sys.executable, "-c", program, tenant.id], capture_output=True, text=True, check=True)
    assert f"Tenant {tenant.id}: another process is working on it" in result.stdout
    assert Tenant.objects.get(pk=tenant.id).status == TenantStatus.ACTIVE


def test_a_lock_that_is_not_waited_for_is_refused_at_once(make_tenant: MakeTenant, settings: Settings) -> None:
    tenant, settings.OPERATION_WAIT_S = make_tenant(), 0

    def suspend() -> None:
        try:
            tenant_suspend(tenant_id=tenant.id)
        finally:
            connections["default"].close()

    with tenant_lock(tenant.id), ThreadPoolExecutor(1) as other, pytest.raises(TenantBusy, match="the lock is held by"):
        other.submit(suspend).result(timeout=60)


def test_a_tenant_cannot_be_placed_where_the_administrator_may_not_create_databases(make_tenant: MakeTenant) -> None:
    tenant_id = new_id()
    main = DatabaseServer.objects.get(pk="main")
    weak = parse_location(make_tenant().database_url)
    with ServerSession(main, database_prefix()) as server_session:
        url = server_session.location(weak.role, weak.password).url
    server = DatabaseServer.objects.create(name=f"weak-{tenant_id}", admin_url=url)
    before = tenants_objects()
    with pytest.raises(
        ServerError,
        match=r"lacks CREATEDB, CREATEROLE, .* As a superuser, run in the database of the administrator's URL: ALTER ",
    ):
        tenant_create(name=tenant_id, server_name=server.name)
    assert tenants_objects() == before
    server.delete()
