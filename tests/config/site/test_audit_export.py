"""The "Export" button on both audit logs' pages: the complete log as a file, recorded before it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from audit.control.models import ControlAuditLog
from audit.log import file_format
from audit.log.actions import ACTIONS
from audit.log.entries import record
from audit.log.file_format import lines_check
from audit.models import AuditLog
from audit.verification.export import audit_export
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.audit.verification.test_verify_audit_export import verify
from tests.support.staff import Filled, give_role

CONTROL = "/admin/audit_control/controlauditlog/"
# The entries of a new tenant's log.
CREATED = 1


def page(tenant: Tenant) -> str:
    return f"/t/{tenant.id}/admin/audit/auditlog/"


def append(tenant: Tenant, number: int) -> None:
    with tenant_context(tenant) as alias, transaction.atomic(using=alias):
        for _ in range(number):
            record(using=alias, action="run.create", resource_type="run", resource_id="r")


def content_of(response: Any) -> bytes:
    assert response.status_code == 200 and response.streaming
    return b"".join(response.streaming_content)


def test_a_tenants_log_is_exported_as_the_command_does_it(
    browser: Client, tenant: Tenant, superuser: User, tmp_path: Path
) -> None:
    append(tenant, 7 - CREATED)
    exported = audit_export(tenant_id=tenant.id, output=str(tmp_path / "log"))
    with patch.object(file_format, "BATCH", 3):
        response = browser.get(f"{page(tenant)}export/")
        pages = list(response.streaming_content)  # type: ignore[attr-defined]
    assert b"".join(pages) == (tmp_path / "log").read_bytes()
    assert [len(one.splitlines()) for one in pages] == [3, 3, 1], "some lines at a time"
    assert response["Content-Disposition"].startswith(f'attachment; filename="audit-{tenant.id}-')
    with tenant_context(tenant):
        [entry] = AuditLog.objects.filter(action="audit.export")
    assert (entry.user_id, entry.resource_type) == (f"staff:{superuser.username}", "audit_log")
    assert entry.details == {"entries": 7, "head": exported.head} and entry.operation_id
    assert entry.previous_hash == exported.head


def test_the_control_log_is_exported_up_to_its_own_entry(browser: Client, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(content_of(browser.get(f"{CONTROL}export/")))
    entry = ControlAuditLog.objects.filter(action="audit.export").latest("id")
    assert entry.details is not None
    result = verify(file, "--identity", "control_audit_logs", "--head", entry.details["head"])
    assert result.returncode == 0, result.stdout
    assert len(file.read_bytes().splitlines()) == entry.details["entries"] == entry.sequence - 1


def test_entries_written_meanwhile_are_left_out(browser: Client, tenant: Tenant) -> None:
    append(tenant, 5 - CREATED)
    with patch.object(file_format, "BATCH", 2):
        response = browser.get(f"{page(tenant)}export/")
        pages = []
        for one in response.streaming_content:  # type: ignore[attr-defined]
            pages.append(one)
            append(tenant, 3)
    lines = b"".join(pages).splitlines(keepends=True)
    assert lines_check(lines, tenant.identity)[0] is None and len(lines) == 5


def test_an_export_contains_no_other_tenants_entries(browser: Client, tenant_pair: tuple[Tenant, Tenant]) -> None:
    first, second = tenant_pair
    append(first, 2)
    append(second, 4 - CREATED)
    lines = content_of(browser.get(f"{page(second)}export/")).splitlines(keepends=True)
    assert lines_check(lines, second.identity)[0] is None and len(lines) == 4
    with tenant_context(first):
        assert not AuditLog.objects.filter(action="audit.export").exists()


def test_an_export_that_cannot_be_recorded_is_refused(browser: Client, tenant: Tenant) -> None:
    append(tenant, 2)
    with patch("audit.log.entries.ACTIONS", ACTIONS - {"audit.export"}):
        for address in (f"{page(tenant)}export/", f"{CONTROL}export/"):
            response = browser.get(address)
            assert response.status_code == 400 and b"run.create" not in response.content, address


@pytest.mark.parametrize(
    ("role", "of_tenant", "of_control"), [("viewer", 200, 403), ("operator", 200, 403), ("administrator", 200, 200)]
)
def test_a_tenants_log_is_exported_by_who_sees_it_and_the_control_log_by_administrators(
    tenant: Tenant, staff: User, role: str, of_tenant: int, of_control: int
) -> None:
    give_role(staff, role)
    client = Client()
    client.force_login(staff)
    for address, status in ((page(tenant), of_tenant), (CONTROL, of_control)):
        assert client.get(f"{address}export/").status_code == status
        shown = client.get(address)
        assert shown.status_code == 200 and (b"/export/" in shown.content) == (status == 200)
    assert Client().get(f"{page(tenant)}export/").status_code == 302


def test_every_way_to_a_files_content_is_recorded(browser: Client, filled: Filled) -> None:
    """Lists and change pages lack the article's text. Its download and views of the run or step are recorded."""
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk, "runcost": filled.run.pk}
    for model, pk in ids.items():
        for address in (f"{filled.site}runs/{model}/", f"{filled.site}runs/{model}/{pk}/change/"):
            assert "Canary article text" not in browser.get(address).content.decode(), address
    with tenant_context(filled.tenant):
        assert not AuditLog.objects.filter(action="artifact.read").exists()
    assert b"Canary" in content_of(browser.get(f"{filled.site}runs/artifact/{filled.artifact.pk}/download/"))
    with tenant_context(filled.tenant):
        assert AuditLog.objects.filter(action="artifact.read").count() == 1
        read = AuditLog.objects.filter(action="run.read").values_list("resource_type", "resource_id")
        assert list(read) == [("run", str(filled.run.pk))] * 2, "the run's page and the step's"
