import pytest

from audit.control.models import ControlAuditLog
from runs.models import Run
from tenants.errors import TenantNotActive, UnknownTenant
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context


def test_a_suspended_tenant_is_closed_until_it_is_resumed(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    with pytest.raises(TenantNotActive) as refusal, tenant_context(tenant.id):
        pass
    assert refusal.value.message == f"The status of tenant {tenant.id} is suspended."
    assert f"seo-gen tenant resume --tenant-id {tenant.id}" in refusal.value.hint
    assert Tenant.objects.get(pk=tenant.id).is_active is False
    tenant_resume(tenant_id=tenant.id)
    with tenant_context(tenant.id):
        assert Run.objects.count() == 0
    actions = ControlAuditLog.objects.filter(resource_id=tenant.id).order_by("-id").values_list("action", flat=True)[:2]
    assert list(actions) == ["tenant.resume", "tenant.suspend"]


def test_an_operator_may_still_look_inside(tenant: Tenant) -> None:
    tenant_suspend(tenant_id=tenant.id)
    with tenant_context(tenant.id, statuses=(TenantStatus.ACTIVE, TenantStatus.SUSPENDED)):
        assert Run.objects.count() == 0


def test_each_is_refused_in_the_wrong_state(tenant: Tenant) -> None:
    with pytest.raises(TenantNotActive, match="is active"):
        tenant_resume(tenant_id=tenant.id)
    tenant_suspend(tenant_id=tenant.id)
    with pytest.raises(TenantNotActive, match="is suspended"):
        tenant_suspend(tenant_id=tenant.id)


def test_a_tenant_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownTenant, match="There is no tenant 'nobody'"):
        tenant_suspend(tenant_id="nobody")


def test_is_active_cleared_by_plain_sql_closes_it_as_well(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(is_active=False)
    with pytest.raises(TenantNotActive, match="is suspended"), tenant_context(tenant.id):
        pass
