"""`tenant limit`: how many steps of a tenant may run at a time."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from config.base.command import Refusal
from runs.turns import limits
from tenants.errors import InvalidStepLimit, TenantNotActive, UnknownTenant
from tenants.lifecycle.limit import tenant_limit_set
from tenants.models import Tenant, TenantStatus


def entries(tenant: Tenant) -> list[dict[str, object] | None]:
    found = ControlAuditLog.objects.filter(resource_id=tenant.id, action="tenant.limit").order_by("id")
    return list(found.values_list("details", flat=True))


def published(tenant: Tenant) -> int | None:
    return dict(limits._read()).get(f"tenant:{tenant.id}")


def test_it_is_set_changed_and_set_back(tenant: Tenant) -> None:
    for steps in (3, 1, None):
        assert tenant_limit_set(tenant_id=tenant.id, steps=steps).max_concurrent_steps == steps
        assert Tenant.objects.get(pk=tenant.id).max_concurrent_steps == steps
        assert published(tenant) == steps
    assert entries(tenant) == [{"from": None, "to": 3}, {"from": 3, "to": 1}, {"from": 1, "to": None}]


@pytest.mark.parametrize("steps", [0, -1, 5001, 2**40])
def test_what_no_tenant_could_work_with_is_refused(steps: int, tenant: Tenant) -> None:
    with pytest.raises(InvalidStepLimit) as refusal:
        tenant_limit_set(tenant_id=tenant.id, steps=steps)
    assert refusal.value.code == "tenant_limit_invalid"
    assert refusal.value.message == f"Tenant {tenant.id}: the step limit must be between 1 and 5000, not {steps}."
    assert ("suspend" in refusal.value.hint) is (steps < 1)
    assert Tenant.objects.get(pk=tenant.id).max_concurrent_steps is None and entries(tenant) == []


def test_only_tenants_that_may_run_have_a_limit(tenant: Tenant) -> None:
    with pytest.raises(UnknownTenant, match="There is no tenant 'nobody'"):
        tenant_limit_set(tenant_id="nobody", steps=1)
    for status in (TenantStatus.DELETING, TenantStatus.DELETED):
        Tenant.objects.filter(pk=tenant.pk).update(status=status)
        with pytest.raises(TenantNotActive, match=f"is {status}"):
            tenant_limit_set(tenant_id=tenant.id, steps=1)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.SUSPENDED)
    tenant_limit_set(tenant_id=tenant.id, steps=1)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("tenant_limit", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_what_holds_now(tenant: Tenant, settings: Settings) -> None:
    assert run("--tenant-id", tenant.id, "--steps", "1") == f"Tenant {tenant.id} runs at most 1 step at a time.\n"
    assert run("--tenant-id", tenant.id, "--steps", "8") == f"Tenant {tenant.id} runs at most 8 steps at a time.\n"
    assert json.loads(run("--tenant-id", tenant.id, "--steps", "2", "--json")) == {
        "id": tenant.id,
        "max_concurrent_steps": 2,
        "default": 48,
    }
    assert run("--tenant-id", tenant.id, "--steps", "default") == (
        f"Tenant {tenant.id} has the default limit: 48 steps at a time.\n"
    )
    settings.RUN_TENANT_CONCURRENCY = 1
    assert run("--tenant-id", tenant.id, "--steps", "default") == (
        f"Tenant {tenant.id} has the default limit: 1 step at a time.\n"
    )


def test_the_command_refuses_what_is_no_limit(tenant: Tenant) -> None:
    with pytest.raises(Refusal, match="must be between 1 and 5000, not 0"):
        run("--tenant-id", tenant.id, "--steps", "0")
    with pytest.raises(CommandError, match="'many' is neither a whole number nor `default`"):
        run("--tenant-id", tenant.id, "--steps", "many")
