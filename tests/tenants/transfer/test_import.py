"""An import is all or nothing, in the control database too."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from llm.models import LLMModel
from tenants.errors import ImportRefused, TenantError
from tenants.models import Tenant
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tenants.types import Progress
from tests.support.tenant_fixtures import remove


def test_the_configuration_is_added_only_together_with_the_tenant(tenant: Tenant, tmp_path: Path) -> None:
    moved = LLMModel.objects.filter(provider_id="openai", model_name="moved")
    LLMModel.objects.create(provider_id="openai", model_name="moved", model_class="pro", is_active=False)
    bundle, new_id = str(tmp_path / "bundle.tar"), f"in-{uuid.uuid4().hex[:12]}"
    tenant_export(tenant_id=tenant.id, output=bundle)
    moved.delete()

    def fail(progress: Progress) -> None:
        if progress.step == "open":
            raise TenantError("The terminal is gone.")

    with pytest.raises(ImportRefused, match=r"The terminal is gone\."):
        tenant_import(file=bundle, new_id=new_id, on_progress=fail)
    assert not moved.exists() and not Tenant.objects.filter(pk=new_id).exists()
    assert tenant_import(file=bundle, new_id=new_id).added == ["openai/moved"]
    assert moved.exists()
    moved.delete()
    remove(Tenant.objects.get(pk=new_id))
