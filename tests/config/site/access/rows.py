"""A row of each model that has a page, the address of every view, and people with each role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from audit.control.models import ArchivedAuditLog, AuditAnchor, AuditArchive, ControlAuditLog
from audit.models import AuditLog
from audit.verification.anchor import audit_anchor
from prompts.models import Prompt
from runs.models import StepOverride
from tenants.models import (
    Approval,
    ApprovalKind,
    Backup,
    BackupKind,
    BatchKind,
    BatchStatus,
    BatchTenant,
    Erasure,
    MigrationBatch,
    OperationRequest,
    RequestKind,
    RequestStatus,
    Restore,
    Role,
    TemporaryAccess,
    Tenant,
    TenantOperation,
)
from tenants.requests.prompt_copies import preview_arguments
from tenants.routing.context import tenant_context
from tests.config.site.access.access_table import ABOUT_THE_INSTALLATION
from tests.support.staff import Filled, fill_tenant, give_role, make_user

# Django's own view that leads from "…/<id>/" to "…/<id>/change/".
SHORT_ADDRESS = "<path:object_id>/"


def views(urlconf: str) -> dict[str, str]:
    """Return {name: route} of the views, except Django's redirects from short addresses; the name may be ""."""
    return dict(_walk(get_resolver(urlconf), ""))


def _walk(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if not isinstance(pattern, URLPattern):
            yield from _walk(pattern, route)
        elif not route.endswith(SHORT_ADDRESS):
            yield pattern.name or "", route


def address_of(name: str, route: str, ids: Mapping[str, object], prefix: str = "/") -> str | None:
    """Return the view's address, with the id of a row of the view's model; None if `ids` has no such row."""
    if "<" not in route:
        return prefix + route
    model = max((model for model in ids if name.startswith(f"{model}_")), key=len, default=None)
    before, _open, rest = route.partition("<")
    return None if model is None else f"{prefix}{before}{ids[model]}{rest.partition('>')[2]}"


@dataclass
class Rows:
    """A tenant with a row of each model, the erasure of another tenant, and the rows' ids by "app_model"."""

    tenant: Tenant
    filled: Filled
    erasure: Erasure
    control: dict[str, object]
    own_site: dict[str, object]


@dataclass
class World:
    ours: Rows
    theirs: Rows
    # For each role, someone who has it for our tenants alone, and someone who has it for all.
    some: dict[str, Client]
    every: dict[str, Client]
    nobody: Client
    installation: dict[str, object]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    from tenants.lifecycle.create import tenant_create
    from tests.support.tenant_fixtures import remove
    from tests.tenants.support.erased import forget_erasure

    made: list[Tenant] = []
    users: list[User] = []

    def new_tenant() -> Tenant:
        made.append(tenant_create(name=f"matrix {uuid4().hex[:12]}"))
        return made[-1]

    def login(user: User) -> Client:
        users.append(user)
        client = Client()
        client.force_login(user)
        return client

    ours, theirs = (_rows(new_tenant(), new_tenant(), users) for _number in range(2))
    some: dict[str, Client] = {}
    every: dict[str, Client] = {}
    for role in Role.values:
        for clients, tenants in ((some, (ours.tenant, made[1])), (every, (None,))):
            user = make_user(is_superuser=False)
            for tenant in tenants:
                give_role(user, role, tenant=tenant)
            clients[role] = login(user)
    yield World(ours, theirs, some, every, login(make_user(is_superuser=False)), _installation())
    for user in users:
        user.delete()
    for rows in (ours, theirs):
        TemporaryAccess.objects.filter(tenant=rows.tenant).delete()
        Backup.objects.filter(tenant_id=rows.tenant.id).delete()
        Restore.objects.filter(tenant_id=rows.tenant.id).delete()
        Approval.objects.filter(tenant_id=rows.tenant.id).delete()
        OperationRequest.objects.filter(tenant_id=rows.tenant.id).delete()
        MigrationBatch.objects.filter(tenants__tenant_id=rows.tenant.id, kind=BatchKind.PROMPT_COPY).delete()
        forget_erasure(rows.erasure)
        remove(rows.tenant)


def _rows(tenant: Tenant, gone: Tenant, users: list[User]) -> Rows:
    from tenants.erasure.delete import tenant_delete

    filled = fill_tenant(tenant)
    erasure = tenant_delete(tenant_id=gone.id)
    colleague = make_user(is_superuser=False)
    give_role(colleague, "operator", tenant=tenant)
    users.append(colleague)
    operation = TenantOperation.objects.create(
        tenant_id=tenant.id, kind="restore", status="completed", user_id="operator:x"
    )
    access = TemporaryAccess.objects.create(
        user=colleague,
        user_name=colleague.username,
        tenant=tenant,
        role="viewer",
        reason="a ticket",
        recorded_at=Now(),
        expires_at=Now() + timedelta(hours=1),
    )
    audit_anchor()
    control: dict[str, object] = {
        "tenants_tenant": tenant.id,
        "tenants_tenantschema": tenant.id,
        "tenants_backup": _export(tenant),
        "tenants_operationrequest": OperationRequest.objects.create(
            kind=RequestKind.BACKUP, tenant_id=tenant.id, requested_by="operator:x", status=RequestStatus.DONE
        ).pk,
        "tenants_approval": Approval.objects.create(
            kind=ApprovalKind.EXPORT,
            tenant_id=tenant.id,
            arguments={"output": "x"},
            digest="x",
            requested_by="operator:x",
            reason="a ticket",
            expires_at=Now() + timedelta(hours=1),
        ).pk,
        "tenants_restore": Restore.objects.create(operation=operation, tenant_id=tenant.id, source="x").pk,
        "tenants_erasure": erasure.pk,
        "tenants_temporaryaccess": access.pk,
        "audit_control_controlauditlog": _last(ControlAuditLog, resource_type="tenant", resource_id=tenant.id),
        "audit_control_auditanchor": _last(AuditAnchor, tenant_id=tenant.id),
        "audit_control_auditarchive": _last(AuditArchive, tenant_id=gone.id),
        "audit_control_archivedauditlog": _last(ArchivedAuditLog, tenant_id=gone.id),
        "auth_user": colleague.pk,
    }
    with tenant_context(tenant):
        own_site: dict[str, object] = {
            "runs_run": filled.run.pk,
            "runs_step": filled.step.pk,
            "runs_artifact": filled.artifact.pk,
            "runs_runcost": filled.run.pk,
            "prompts_prompt": Prompt.objects.create(
                step="draft", version=77, content="x", variables=[], is_active=False, note="n"
            ).pk,
            "prompts_copy": copy_previewed_at(tenant).pk,
            "runs_stepoverride": StepOverride.objects.create(step="draft", llm_provider="claude").pk,
            "audit_auditlog": _last(AuditLog),
        }
    return Rows(tenant, filled, erasure, control, own_site)


def copy_previewed_at(tenant: Tenant) -> OperationRequest:
    """Create a finished preview of copying the tenant's prompts to itself, with a change; return its request."""
    batch = MigrationBatch.objects.create(
        kind=BatchKind.PROMPT_COPY, status=BatchStatus.COMPLETED, dry_run=True, user_id="x", version="draft v1"
    )
    change = {"step": "draft", "before": 1, "before_id": 1, "before_sha256": "x", "after": 2, "after_id": None}
    BatchTenant.objects.create(
        batch=batch, tenant_id=tenant.id, server="x", database="x", from_version="x", migrations=[], changes=[change]
    )
    versions = [{"step": "draft", "version": 1, "sha256": "x"}]
    return OperationRequest.objects.create(
        kind=RequestKind.PROMPT_COPY,
        tenant_id=tenant.id,
        requested_by="operator:x",
        status=RequestStatus.DONE,
        arguments=preview_arguments(steps=["draft"], version=None, tenants=[tenant.id], text="draft v1"),
        result={"batch": str(batch.pk), "tenants": 2, "changed": 1, "prompts": versions, "to_all": False},
    )


def _export(tenant: Tenant) -> object:
    """Export the tenant to the place of staff's exports; return the export's id in the catalogue."""
    from tenants.requests.places import export_place
    from tenants.transfer.export import tenant_export

    tenant_export(tenant_id=tenant.id, output=f"{export_place()}/{uuid4().hex}.tar")
    return _last(Backup, tenant_id=tenant.id, kind=BackupKind.EXPORT)


def _last(model: Any, **values: object) -> object:
    return model.objects.filter(**values).order_by("-pk").values_list("pk", flat=True)[0]


def _installation() -> dict[str, object]:
    from django.apps import apps

    models = {name.rpartition("_")[0] for name in ABOUT_THE_INSTALLATION if name.endswith("_changelist")}
    found = {name: apps.get_model(name.replace("_", ".", 1)).objects.order_by("pk").first() for name in models}
    ids = {name: row.pk for name, row in found.items() if row is not None}
    return {**ids, "sign_ins": User.objects.order_by("pk").values_list("pk", flat=True)[0]}
