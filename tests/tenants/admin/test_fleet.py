"""The fleet page finds tenants by the state of their schema."""

from __future__ import annotations

import pytest
from django.test import Client

from tenants.models import Tenant


@pytest.mark.parametrize(
    ("drift", "choice"), [(None, "unknown"), ([], "no"), (["column runs.extra is unexpected"], "yes")]
)
def test_a_tenant_is_found_by_its_drift(browser: Client, tenant: Tenant, drift: list[str] | None, choice: str) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(schema_drift=drift)
    found = {
        wanted: tenant
        in browser.get(f"/admin/tenants/tenantschema/?drift={wanted}&q={tenant.pk}").context["cl"].result_list
        for wanted in ("unknown", "no", "yes")
    }
    assert found == {wanted: wanted == choice for wanted in found}
