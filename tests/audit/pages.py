"""Everything that staff can do in the admin: how a browser does it, and which entry it writes, if any.

The names are built from what the sites register: "control/llmmodel/add", "tenant/prompt/action activate".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.db.models.functions import Now
from django.test import Client, RequestFactory
from django.urls import URLPattern
from django.utils import timezone

from config.site.sites import StaffSite, control_site, tenant_site
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, PriceSource, StepLLMDefault
from llm.prices.history import price_add
from llm.prices.refresh import prices_apply, prices_compare
from llm.types import ModelPrices
from prompts.models import Prompt
from prompts.services import prompt_activate
from runs import storage
from runs.models import Artifact, Run, StepOverride
from runs.services.approve import review_of
from runs.services.cancel import run_cancel
from runs.services.create import run_create
from runs.services.versions import files_to_keep, keep
from tenants.approvals.digest import digest_of
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import (
    Approval,
    Backup,
    DatabaseServer,
    MigrationBatch,
    OperationRequest,
    TemporaryAccess,
    Tenant,
    TenantGroup,
    TenantStatus,
)
from tenants.requests.prompt_copies import preview_arguments
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tests.audit.commands import provider_answering
from tests.runs.fake_llm import Answer
from tests.support.staff import PASSWORD, Filled, give_role, make_user, roles_form, run_in_review
from tests.support.tenant_fixtures import remove_all

SITES: dict[str, StaffSite] = {"control": control_site, "tenant": tenant_site}
UNFOLD_ACTIONS = ("actions_list", "actions_row", "actions_detail", "actions_submit_line")
# Addresses of each model that its permissions cover, or that only display something.
STANDARD = ("changelist", "add", "change", "delete", "history")
VARIABLES = '[{"name": "keyword", "type": "string", "required": true}]'
NOTE = {"note": "Why it is made."}
CONFIRMED = {"_form_submitted": "on"}
# What the form of a step of the pipeline always sends.
WHOLE = {"on_truncation": "retry"}

# What writes no entry, and why.
WITHOUT_ENTRY = {
    # Redirects to the form for a new version.
    "tenant/prompt/action copy",
    # Shows the difference between two templates; prompts are shown without an entry too.
    "tenant/prompt/action compare",
    # Django's redirect from an address without "change/".
    *(f"{site}/{model._meta.model_name}/url" for site, found in SITES.items() for model in found._registry),
    # They display, sign in or out, or change only the session.
    *(
        f"{site}/url {name}"
        for site in SITES
        for name in ("index", "login", "logout", "jsi18n", "autocomplete", "app_list", "password_change_done")
    ),
    # Redirects to the form that starts a run, which records that the earlier run's configuration was read.
    "tenant/run/action start_again",
    # A poll of a run's page: the page itself was recorded as read.
    "tenant/run/url runs_run_live",
    # Redirects to the control site's page.
    "tenant/url password_change",
    # What the operation's page shows, again.
    "control/operationrequest/url tenants_operationrequest_progress",
    # The certificate that the erasure's page shows too: ids, sizes and digests.
    "control/erasure/url tenants_erasure_certificate",
    # Signing in and one's own account: their changes and entries are in tests/config/site/sign_in.
    *(f"control/url {name}" for name in ("account", "second_factor_codes", "second_factor_off")),
    *(f"control/url {name}" for name in ("sign_in_code", "sign_in_enrol", "sign_in_openid", "sign_in_openid_callback")),
    *("control/url sign_ins", "control/url sign_ins_user"),
    # It finds names and ids, and changes nothing.
    *(f"{site}/url search" for site in SITES),
    # An address that does not exist.
    *(f"{site}/url" for site in SITES),
}

# Pages of a tenant's site that request an operation on others: the operation writes into their logs.
IN_CONTROL_LOG = {
    *("tenant/prompt/action copy_to_tenants", "tenant/prompt/action copy_all_to_tenants"),
    "tenant/prompt/url prompts_copy_report",
}
# Pages of the control site that also write into the tenant's log.
IN_BOTH_LOGS = {f"control/approval/url tenants_approval_{decision}" for decision in ("approve", "reject", "withdraw")}


@dataclass(frozen=True)
class Staff:
    """A staff member's browser, and the objects to change."""

    browser: Client
    user: User
    filled: Filled
    request: pytest.FixtureRequest

    @property
    def tenant(self) -> Tenant:
        return self.filled.tenant

    def afterwards(self, work: Callable[[], object]) -> None:
        self.request.addfinalizer(work)

    def post(self, path: str, form: dict[str, Any]) -> None:
        """Send a form and require a redirect or an error 500.

        A path that does not start with "/" is on the tenant's site.
        """
        site = "" if path.startswith("/") else self.filled.site
        response = self.browser.post(site + path, form)
        refused = response.context and response.context.get("errors")
        assert response.status_code in (302, 500), refused or response.content.decode()

    def open(self) -> None:
        Tenant.objects.filter(pk=self.tenant.pk).update(status=TenantStatus.ACTIVE, is_active=True)

    def model(self) -> LLMModel:
        name = f"model-{uuid4().hex[:8]}"
        made = LLMModel.objects.create(provider_id="openai", model_name=name, model_class="pro", is_active=False)
        self.afterwards(lambda: LLMModel.objects.filter(model_name=name).delete())
        return made

    def draft(self) -> Prompt:
        with tenant_context(self.tenant):
            return Prompt.objects.create(
                step="draft",
                version=100 + Prompt.objects.count(),
                content="Write about {{ keyword }}",
                variables=[_variable()],
                is_active=False,
            )


def _variable() -> dict[str, object]:
    return {"name": "keyword", "type": "string", "required": True}


def set_keys(request: pytest.FixtureRequest) -> None:
    """Set a key for each provider: without one, no step can be routed to it."""
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    for variable in KEY_VARIABLES.values():
        patch.setenv(variable, "sk-test")


@dataclass(frozen=True)
class Change:
    # Prepares the change, and returns the function that makes it.
    prepare: Callable[[Staff], Callable[[], object]]
    action: str


CHANGES: dict[str, Change] = {}


def change(name: str, action: str) -> Callable[[Callable[[Staff], Callable[[], object]]], None]:
    def enter(prepare: Callable[[Staff], Callable[[], object]]) -> None:
        CHANGES[name] = Change(prepare, action)

    return enter


# -- what exists ---------------------------------------------------------------------------------------------------


def offered(user: User, tenant: Tenant) -> set[str]:
    """Return the names of all that the sites register; add, change, delete and bulk actions only if the user may."""
    with tenant_context(tenant):
        return {name for site, found in SITES.items() for name in _offered(site, found, user)}


def _offered(name: str, site: StaffSite, user: User) -> Iterator[str]:
    request = RequestFactory().get("/")
    request.user = user
    of_models = set()
    for model, admin in site._registry.items():
        begin = f"{name}/{model._meta.model_name}/"
        for verb in ("add", "change", "delete"):
            if getattr(admin, f"has_{verb}_permission")(request):
                yield begin + verb
        if getattr(admin, "list_editable", ()):
            yield f"{begin}list"
        for inline in admin.get_inline_instances(request):
            if any(getattr(inline, f"has_{verb}_permission")(request, None) for verb in ("add", "change", "delete")):
                yield f"{begin}inline {inline.model._meta.model_name}"
        yield from (f"{begin}action {action}" for action in admin.get_actions(request))
        actions = {action for kind in UNFOLD_ACTIONS for action in _names(admin, kind)}
        yield from (f"{begin}action {action}" for action in actions)
        prefix = f"{model._meta.app_label}_{model._meta.model_name}_"
        known = {*(prefix + standard for standard in STANDARD), *(prefix + action for action in actions)}
        of_urls = {url.name for url in admin.get_urls() if isinstance(url, URLPattern)}
        of_models |= of_urls
        yield from (f"{begin}url {url or ''}".rstrip() for url in of_urls - known)
    for url in site.get_urls():
        if isinstance(url, URLPattern):
            yield f"{name}/url {url.name or ''}".rstrip()


def _names(admin: Any, kind: str) -> list[str]:
    names: list[str] = admin._extract_action_names(getattr(admin, kind))
    return names


# -- the control site ----------------------------------------------------------------------------------------------


@change("control/llmprovider/add", "llm.provider.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"provider-{uuid4().hex[:8]}"
    staff.afterwards(lambda: LLMProvider.objects.filter(pk=name).delete())
    form = {"id": name, "display_name": "Second account", "wire": "openai", "key_variable": "OPENAI_SECOND_API_KEY"}
    return lambda: staff.post("/admin/llm/llmprovider/add/", form)


@change("control/llmprovider/change", "llm.provider.change")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(LLMProvider.objects.get(pk="gemini").save)
    form = {"display_name": "Renamed", "is_active": "on", "wire": "gemini", "key_variable": "GEMINI_API_KEY"}
    return lambda: staff.post("/admin/llm/llmprovider/gemini/change/", form)


@change("control/llmprovider/delete", "llm.provider.delete")
def _(staff: Staff) -> Callable[[], object]:
    made = LLMProvider.objects.create(pk=f"provider-{uuid4().hex[:8]}", display_name="Unused")
    staff.afterwards(lambda: LLMProvider.objects.filter(pk=made.pk).delete())
    return lambda: staff.post(f"/admin/llm/llmprovider/{made.pk}/delete/", {"post": "yes"})


@change("control/llmprovider/list", "llm.provider.change")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(LLMProvider.objects.get(pk="gemini").save)
    rows = list(LLMProvider.objects.order_by("-pk"))
    form: dict[str, Any] = {"form-TOTAL_FORMS": len(rows), "form-INITIAL_FORMS": len(rows), "_save": "Save"}
    for number, row in enumerate(rows):
        form[f"form-{number}-id"] = row.pk
        if row.is_active and row.pk != "gemini":
            form[f"form-{number}-is_active"] = "on"
    return lambda: staff.post("/admin/llm/llmprovider/", form)


@change("control/llmprovider/action check_provider", "llm.check")
def _(staff: Staff) -> Callable[[], object]:
    provider_answering(staff.request)
    return lambda: staff.post("/admin/llm/llmprovider/openai/check_provider/", CONFIRMED)


@change("control/llmmodel/add", "llm.model.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"model-{uuid4().hex[:8]}"
    staff.afterwards(lambda: LLMModel.objects.filter(model_name=name).delete())
    form = {"provider": "openai", "model_name": name, "model_class": "standard"}
    return lambda: staff.post("/admin/llm/llmmodel/add/", form)


@change("control/llmmodel/change", "llm.model.change")
def _(staff: Staff) -> Callable[[], object]:
    made = staff.model()
    form = {
        "provider": "openai",
        "model_name": made.model_name,
        "model_class": "pro",
        "cost_per_1k_input_tokens": "0.0125",
    }
    return lambda: staff.post(f"/admin/llm/llmmodel/{made.pk}/change/", form)


@change("control/llmmodel/delete", "llm.model.delete")
def _(staff: Staff) -> Callable[[], object]:
    made = staff.model()
    return lambda: staff.post(f"/admin/llm/llmmodel/{made.pk}/delete/", {"post": "yes"})


@change("control/llmmodel/list", "llm.model.change")
def _(staff: Staff) -> Callable[[], object]:
    made = staff.model()
    form = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(made.pk),
        "form-0-cost_per_1k_input_tokens": "0.5",
        "_save": "Save",
    }
    return lambda: staff.post(f"/admin/llm/llmmodel/?q={made.model_name}", form)


@change("control/llmmodel/action set_prices", "llm.prices.set")
def _(staff: Staff) -> Callable[[], object]:
    made = staff.model()
    form = {"valid_from": "2100-01-01", "input": "0.0125"}
    return lambda: staff.post(f"/admin/llm/llmmodel/{made.pk}/set_prices/", form)


@change("control/llmmodel/action import_prices", "llm.prices.refresh")
def _(staff: Staff) -> Callable[[], object]:
    model = LLMModel.objects.get(provider_id="openai", model_name="gpt-6.1-sol")
    prices = ModelPrices({"input": Decimal("0.5"), "output": Decimal("0.5")})
    price_add(model=model, prices=prices, source=PriceSource.LIST)
    staff.afterwards(prices_apply)
    form = {"source": "installed", "comparison": prices_compare().digest}
    return lambda: staff.post("/admin/llm/llmmodel/import_prices/", form)


@change("control/stepllmdefault/add", "step_default.create")
def _(staff: Staff) -> Callable[[], object]:
    set_keys(staff.request)
    staff.afterwards(lambda: StepLLMDefault.objects.filter(pk="extra").delete())
    form = {"step": "extra", "position": "99", "provider": "openai", "model_class": "standard", **WHOLE}
    return lambda: staff.post("/admin/llm/stepllmdefault/add/", form)


@change("control/stepllmdefault/change", "step_default.change")
def _(staff: Staff) -> Callable[[], object]:
    set_keys(staff.request)
    default = StepLLMDefault.objects.get(pk="draft")
    staff.afterwards(default.save)
    form = {"position": default.position, "provider": _other(default), "model_class": default.model_class, **WHOLE}
    return lambda: staff.post("/admin/llm/stepllmdefault/draft/change/", form)


@change("control/stepllmdefault/delete", "step_default.delete")
def _(staff: Staff) -> Callable[[], object]:
    made = StepLLMDefault.objects.create(step="extra", position=99, provider_id="openai", model_class="standard")
    staff.afterwards(lambda: StepLLMDefault.objects.filter(pk=made.pk).delete())
    return lambda: staff.post("/admin/llm/stepllmdefault/extra/delete/", {"post": "yes"})


@change("control/stepllmdefault/list", "step_default.change")
def _(staff: Staff) -> Callable[[], object]:
    set_keys(staff.request)
    rows = list(StepLLMDefault.objects.order_by("position", "step"))
    staff.afterwards(StepLLMDefault.objects.get(pk="draft").save)
    form: dict[str, Any] = {"form-TOTAL_FORMS": len(rows), "form-INITIAL_FORMS": len(rows), "_save": "Save"}
    for number, row in enumerate(rows):
        form |= {
            f"form-{number}-step": row.pk,
            f"form-{number}-position": row.position,
            f"form-{number}-provider": _other(row) if row.pk == "draft" else row.provider_id,
            f"form-{number}-model_class": row.model_class,
        }
    return lambda: staff.post("/admin/llm/stepllmdefault/", form)


def _other(default: StepLLMDefault) -> str:
    return "claude" if default.provider_id != "claude" else "openai"


@change("control/databaseserver/add", "server.create")
def _(staff: Staff) -> Callable[[], object]:
    name = _server_name(staff)
    form = {"name": name, "new_admin_url": _main().admin_url, "capacity": "3", "is_active": "on"}
    return lambda: staff.post("/admin/tenants/databaseserver/add/", form)


@change("control/databaseserver/change", "server.change")
def _(staff: Staff) -> Callable[[], object]:
    name = _server_name(staff)
    DatabaseServer.objects.create(pk=name, admin_url=_main().admin_url)
    return lambda: staff.post(f"/admin/tenants/databaseserver/{name}/change/", {"capacity": "3", "is_active": "on"})


@change("control/databaseserver/delete", "server.delete")
def _(staff: Staff) -> Callable[[], object]:
    name = _server_name(staff)
    DatabaseServer.objects.create(pk=name, admin_url=_main().admin_url)
    return lambda: staff.post(f"/admin/tenants/databaseserver/{name}/delete/", {"post": "yes"})


def _main() -> DatabaseServer:
    return DatabaseServer.objects.get(pk="main")


def _server_name(staff: Staff) -> str:
    name = f"server-{uuid4().hex[:8]}"
    staff.afterwards(lambda: DatabaseServer.objects.filter(pk=name).delete())
    return name


@change("control/tenant/add", "tenant.create")
def _(staff: Staff) -> Callable[[], object]:
    tenant_id = f"made-{uuid4().hex[:12]}"
    staff.afterwards(lambda: remove_all([tenant_id]))
    return lambda: staff.post("/admin/tenants/tenant/add/", {"name": tenant_id, "tenant_id": tenant_id})


@change("control/tenant/action suspend", "tenant.suspend")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(staff.open)
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/suspend/", CONFIRMED)


@change("control/tenant/action resume", "tenant.resume")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(staff.open)
    tenant_suspend(tenant_id=staff.tenant.id)
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/resume/", CONFIRMED)


@change("control/tenant/action limit", "tenant.limit")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/limit/", {**CONFIRMED, "steps": "3"})


@change("control/tenant/action budget", "tenant.budget")
def _(staff: Staff) -> Callable[[], object]:
    budgets = {"monthly_budget_usd": "50", "run_budget_usd": ""}
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/budget/", {**CONFIRMED, **budgets})


@change("control/tenant/action back_up", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/back-up/", {"reason": "a test"})


@change("control/tenant/action restore", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    moment = {"to_time": "2026-01-01T00:00:00", "typed_id": staff.tenant.id, "reason": "a test"}
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/restore/", moment)


@change("control/tenant/action undo", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    typed = {"typed_id": staff.tenant.id, "reason": "a test"}
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/undo/", typed)


@change("control/tenant/action copy", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    copy = {"to_time": "2026-01-01T00:00:00", "new_id": f"made-{uuid4().hex[:12]}", "reason": ""}
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/copy/", copy)


@change("control/tenant/action drill", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/drill/", {"reason": ""})


@change("control/tenant/action export", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/export/", {"reason": "a test"})


@change("control/tenant/action erase", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    typed = {"typed_id": staff.tenant.id, "reason": "a test"}
    return lambda: staff.post(f"/admin/tenants/tenant/{staff.tenant.id}/erase/", typed)


@change("control/tenantschema/action migrate", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(lambda: OperationRequest.objects.filter(tenant_id="").delete())
    return lambda: staff.post("/admin/tenants/tenantschema/migrate/", {"dry_run": "on", "reason": ""})


def _copied_to(staff: Staff) -> dict[str, Any]:
    """Create another tenant, and return the form that requests a preview of copying prompts to it."""
    other = tenant_create(name="copied to")
    staff.afterwards(lambda: remove_all([other.pk]))
    staff.afterwards(lambda: OperationRequest.objects.filter(tenant_id=staff.tenant.id).delete())
    return {"what": "", "to": "some", "tenants": [other.pk], "reason": ""}


@change("tenant/prompt/action copy_to_tenants", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    form, draft = _copied_to(staff), staff.draft()
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/copy_to_tenants/", form)


@change("tenant/prompt/action copy_all_to_tenants", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    form = _copied_to(staff)
    return lambda: staff.post("prompts/prompt/copy_all_to_tenants/", form)


@change("tenant/prompt/url prompts_copy_report", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    batch = MigrationBatch.objects.create(
        kind="prompt_copy", status="completed", user_id="x", version="x", dry_run=True
    )
    row = OperationRequest.objects.create(
        kind="prompt_copy",
        tenant_id=staff.tenant.id,
        status="done",
        arguments=preview_arguments(steps=[], version=None, tenants=[], text=""),
        result={"batch": str(batch.pk), "tenants": 1, "changed": 1, "prompts": [], "to_all": False},
    )
    staff.afterwards(lambda: MigrationBatch.objects.filter(pk=batch.pk).delete())
    staff.afterwards(lambda: OperationRequest.objects.filter(tenant_id=staff.tenant.id).delete())
    return lambda: staff.post(f"prompts/prompt/copies/{row.pk}/", {"reason": "agreed"})


@change("control/operationrequest/url tenants_operationrequest_recover", "operation.recover")
def _(staff: Staff) -> Callable[[], object]:
    row = OperationRequest.objects.create(kind="backup", tenant_id=staff.tenant.id, status="unfinished")
    staff.afterwards(lambda: OperationRequest.objects.filter(pk=row.pk).delete())
    return lambda: staff.post(f"/admin/tenants/operationrequest/{row.pk}/recover/", {})


@change("control/approval/url tenants_approval_approve", "approval.approve")
def _(staff: Staff) -> Callable[[], object]:
    row = _approval(staff)
    return lambda: staff.post(f"/admin/tenants/approval/{row.pk}/approve/", {"digest": row.digest})


@change("control/approval/url tenants_approval_reject", "approval.reject")
def _(staff: Staff) -> Callable[[], object]:
    row = _approval(staff)
    return lambda: staff.post(f"/admin/tenants/approval/{row.pk}/reject/", {"digest": row.digest})


@change("control/approval/url tenants_approval_withdraw", "approval.withdraw")
def _(staff: Staff) -> Callable[[], object]:
    row = _approval(staff, requester_id=staff.user.pk)
    return lambda: staff.post(f"/admin/tenants/approval/{row.pk}/withdraw/", {})


@change("control/approval/url tenants_approval_start", "operation.request")
def _(staff: Staff) -> Callable[[], object]:
    approver = make_user(is_superuser=True)
    staff.afterwards(approver.delete)
    row = _approval(
        staff,
        requester_id=staff.user.pk,
        requested_by=f"staff:{staff.user.username}",
        status="approved",
        decider_id=approver.pk,
        decided_by=f"staff:{approver.username}",
    )
    return lambda: staff.post(f"/admin/tenants/approval/{row.pk}/start/", {})


def _approval(staff: Staff, **fields: Any) -> Approval:
    """Create an approval of an export, requested by someone else unless `fields` say otherwise; return it."""
    arguments = {"output": f"/tmp/{uuid4().hex}.tar", "recipient": ""}
    kept = {
        "kind": "export",
        "tenant_id": staff.tenant.id,
        "arguments": arguments,
        "digest": digest_of("export", staff.tenant.id, arguments),
        "requested_by": "staff:someone",
        "reason": "a test",
        "expires_at": timezone.now() + timedelta(hours=1),
    }
    staff.afterwards(lambda: OperationRequest.objects.filter(tenant_id=staff.tenant.id).delete())
    return Approval.objects.create(**{**kept, **fields})


@change("control/backup/url tenants_backup_download", "backup.download")
def _(staff: Staff) -> Callable[[], object]:
    folder = staff.request.getfixturevalue("folder").parent / "exports"
    settings = staff.request.getfixturevalue("settings")
    settings.EXPORT_OUTPUT = str(folder)
    made = tenant_export(tenant_id=staff.tenant.id, output=str(folder / "bundle.tar"))
    staff.afterwards(lambda: Backup.objects.filter(pk=made.pk).delete())

    def download() -> object:
        try:
            return staff.browser.get(f"/admin/tenants/backup/{made.pk}/download/").getvalue()
        except DatabaseError:
            return None

    return download


@change("control/user/add", "user.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"new-{uuid4().hex[:8]}"
    staff.afterwards(lambda: User.objects.filter(username=name).delete())
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    return lambda: staff.post("/admin/auth/user/add/", form | roles_form())


@change("control/user/change", "user.change")
def _(staff: Staff) -> Callable[[], object]:
    user = _new_user(staff)
    form = {"username": user.username, "is_active": "on", "first_name": "Renamed"}
    return lambda: staff.post(f"/admin/auth/user/{user.pk}/change/", form | roles_form())


@change("control/user/inline roleassignment", "user.roles")
def _(staff: Staff) -> Callable[[], object]:
    user = _new_user(staff)
    form = {"username": user.username, "is_active": "on"} | roles_form({"role": "viewer", "scope": "all"})
    return lambda: staff.post(f"/admin/auth/user/{user.pk}/change/", form)


@change("control/user/delete", "user.delete")
def _(staff: Staff) -> Callable[[], object]:
    user = _new_user(staff)
    return lambda: staff.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"})


@change("control/user/url auth_user_password_change", "user.change")
def _(staff: Staff) -> Callable[[], object]:
    user = _new_user(staff)
    form = {"password1": PASSWORD + "2", "password2": PASSWORD + "2", "usable_password": "true"}
    return lambda: staff.post(f"/admin/auth/user/{user.pk}/password/", form)


def _new_user(staff: Staff) -> User:
    user = User.objects.create_user(f"new-{uuid4().hex[:8]}", password=PASSWORD)
    staff.afterwards(lambda: User.objects.filter(pk=user.pk).delete())
    return user


@change("control/temporaryaccess/action close", "tenant.access.close")
def _(staff: Staff) -> Callable[[], object]:
    other = _new_user(staff)
    give_role(other, "operator")
    opened = TemporaryAccess.objects.create(
        user=other,
        user_name=other.username,
        tenant=staff.tenant,
        role="viewer",
        reason="a ticket",
        recorded_at=Now(),
        expires_at=Now() + timedelta(hours=1),
    )
    staff.afterwards(lambda: TemporaryAccess.objects.filter(pk=opened.pk).delete())
    return lambda: staff.post(f"/admin/tenants/temporaryaccess/{opened.pk}/close/", {"_form_submitted": "on"})


@change("control/tenantgroup/add", "tenant_group.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"group-{uuid4().hex[:8]}"
    staff.afterwards(lambda: TenantGroup.objects.filter(name__startswith=name).delete())
    return lambda: staff.post("/admin/tenants/tenantgroup/add/", {"name": name})


@change("control/tenantgroup/change", "tenant_group.change")
def _(staff: Staff) -> Callable[[], object]:
    group = _new_group(staff)
    return lambda: staff.post(f"/admin/tenants/tenantgroup/{group.pk}/change/", {"name": f"{group.name} renamed"})


@change("control/tenantgroup/delete", "tenant_group.delete")
def _(staff: Staff) -> Callable[[], object]:
    group = _new_group(staff)
    return lambda: staff.post(f"/admin/tenants/tenantgroup/{group.pk}/delete/", {"post": "yes"})


def _new_group(staff: Staff) -> TenantGroup:
    group = TenantGroup.objects.create(name=f"group-{uuid4().hex[:8]}")
    staff.afterwards(lambda: TenantGroup.objects.filter(pk=group.pk).delete())
    return group


@change("control/controlauditlog/action export", "audit.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, "/admin/audit_control/controlauditlog/export/")


@change("control/url costs", "cost.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, "/admin/costs/?format=csv")


@change("control/url password_change", "user.change")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(lambda: User.objects.filter(pk=staff.user.pk).update(password=staff.user.password))
    form = {"old_password": PASSWORD, "new_password1": PASSWORD + "3", "new_password2": PASSWORD + "3"}
    return lambda: staff.post("/admin/password_change/", form)


# -- a tenant's site -----------------------------------------------------------------------------------------------


@change("tenant/run/add", "run.create")
def _(staff: Staff) -> Callable[[], object]:
    form = {"keyword": "coffee", "language": "en", "advanced": ""}
    return lambda: staff.post("runs/run/add/", form)


def _acts(staff: Staff, action: str, run: Run, **form: str) -> Callable[[], object]:
    return lambda: staff.post(f"runs/run/{run.pk}/{action}/", {**CONFIRMED, **form})


def _acts_on_selected(staff: Staff, action: str, run: Run, **form: str) -> Callable[[], object]:
    return lambda: staff.post("runs/run/", {"action": action, "_selected_action": str(run.pk), **form})


def _run(staff: Staff, *, hold: bool = False) -> Run:
    return run_create(tenant_id=staff.tenant.pk, config={"keyword": "tea", "language": "en"}, hold=hold)


def _failed_run(staff: Staff) -> Run:
    return run_cancel(tenant_id=staff.tenant.pk, run_id=_run(staff).pk)


@change("tenant/run/action pause", "run.pause")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "pause", _run(staff))


@change("tenant/run/action resume", "run.resume")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "resume", _run(staff, hold=True))


@change("tenant/run/action cancel", "run.cancel")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "cancel", _run(staff))


@change("tenant/run/action retry", "run.retry")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "retry", _failed_run(staff))


@change("tenant/run/action retry_from", "run.retry")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "retry_from", _failed_run(staff), step="keyword_analysis")


@change("tenant/run/action approve", "run.approve")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "approve", run_in_review(staff.tenant))


@change("tenant/run/action send_back", "run.send_back")
def _(staff: Staff) -> Callable[[], object]:
    run = run_in_review(staff.tenant)
    # The copies of the output are made before the transaction and stay even if it fails, as after an earlier try.
    with tenant_context(staff.tenant) as alias:
        for file in files_to_keep(alias, run.steps.all()):
            keep(file)
    return _acts(staff, "send_back", run, step="keyword_analysis", comment="Shorter.")


@change("tenant/run/action raise_budget", "run.resume")
def _(staff: Staff) -> Callable[[], object]:
    return _acts(staff, "raise_budget", _run(staff, hold=True), budget_usd="2.5")


@change("tenant/run/url runs_run_series", "run.create")
def _(staff: Staff) -> Callable[[], object]:
    form = {"nonce": str(uuid4()), "rows": '[[1, {"keyword": "tea", "language": "en"}]]', "hold": "on"}
    return lambda: staff.post("runs/run/series/", form)


@change("tenant/run/url runs_run_reviews", "run.approve")
def _(staff: Staff) -> Callable[[], object]:
    run = run_in_review(staff.tenant)
    form = {"run": str(run.pk), "seen": review_of(run), "approve": "1"}
    return lambda: staff.post("runs/run/reviews/", form)


@change("tenant/run/url runs_run_texts", "artifact.read")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}runs/run/{staff.filled.run.pk}/texts/")


@change("tenant/run/url runs_run_compare", "artifact.read")
def _(staff: Staff) -> Callable[[], object]:
    with tenant_context(staff.tenant):
        artifact = Artifact.objects.get(pk=staff.filled.artifact.pk)
        artifact.pk, artifact.file_path = None, artifact.file_path.replace("article.md", "notes.md")
        artifact.digest = storage.write(artifact.file_path, b"notes").digest
        artifact.step = "draft"
        artifact.save(force_insert=True)
    return lambda: _get(staff, f"{staff.filled.site}runs/run/{staff.filled.run.pk}/compare/")


@change("tenant/run/action pause_selected", "run.pause")
def _(staff: Staff) -> Callable[[], object]:
    return _acts_on_selected(staff, "pause_selected", _run(staff))


@change("tenant/run/action resume_selected", "run.resume")
def _(staff: Staff) -> Callable[[], object]:
    return _acts_on_selected(staff, "resume_selected", _run(staff, hold=True))


@change("tenant/run/action approve_selected", "run.approve")
def _(staff: Staff) -> Callable[[], object]:
    return _acts_on_selected(staff, "approve_selected", run_in_review(staff.tenant))


@change("tenant/run/action retry_selected", "run.retry")
def _(staff: Staff) -> Callable[[], object]:
    return _acts_on_selected(staff, "retry_selected", _failed_run(staff))


@change("tenant/run/action cancel_selected", "run.cancel")
def _(staff: Staff) -> Callable[[], object]:
    return _acts_on_selected(staff, "cancel_selected", _run(staff), confirmed="on")


@change("tenant/prompt/add", "prompt.create")
def _(staff: Staff) -> Callable[[], object]:
    form = {"step": "draft", "content": "Write about {{ keyword }}.", "variables": VARIABLES, **NOTE}
    return lambda: staff.post("prompts/prompt/add/", form)


@change("tenant/prompt/change", "prompt.change")
def _(staff: Staff) -> Callable[[], object]:
    form = {"content": "Now about {{ keyword }}", "variables": VARIABLES, **NOTE}
    draft = staff.draft()
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/change/", form)


@change("tenant/prompt/action activate", "prompt.activate")
def _(staff: Staff) -> Callable[[], object]:
    draft = staff.draft()
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/activate/", CONFIRMED)


@change("tenant/prompt/action save_and_activate", "prompt.activate")
def _(staff: Staff) -> Callable[[], object]:
    form = {"content": "Now about {{ keyword }}", "variables": VARIABLES, **NOTE}
    draft = staff.draft()
    form["prompts_prompt_save_and_activate"] = "on"
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/change/", form)


@change("tenant/prompt/action roll_back", "prompt.activate")
def _(staff: Staff) -> Callable[[], object]:
    draft = staff.draft()
    with tenant_context(staff.tenant) as alias:
        prompt_activate(alias=alias, prompt_id=draft.pk)
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/roll_back/", CONFIRMED)


@change("tenant/prompt/action try_out", "prompt.test")
def _(staff: Staff) -> Callable[[], object]:
    fake = staff.request.getfixturevalue("fake_llm")
    fake.answers.append(Answer(text="tried"))
    default = StepLLMDefault.objects.get(pk="draft")
    staff.afterwards(default.save)
    StepLLMDefault.objects.filter(pk="draft").update(provider="openai", model_class="standard")
    form = {"run": "", "inputs": '{"keyword": "tea"}', "call": ""}
    address = f"{staff.filled.site}prompts/prompt/{staff.draft().pk}/try_out/"

    def try_out() -> None:
        assert staff.browser.post(address, form).status_code in (200, 500)

    return try_out


@change("tenant/artifact/url runs_artifact_download", "artifact.read")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}runs/artifact/{staff.filled.artifact.pk}/download/")


@change("tenant/stepoverride/add", "step_override.create")
def _(staff: Staff) -> Callable[[], object]:
    form = {"step": "outline", "llm_provider": "local", "output_limit": "64"}
    return lambda: staff.post("runs/stepoverride/add/", form)


@change("tenant/stepoverride/change", "step_override.change")
def _(staff: Staff) -> Callable[[], object]:
    _override(staff)
    return lambda: staff.post("runs/stepoverride/outline/change/", {"llm_provider": "local", "output_limit": "65"})


@change("tenant/stepoverride/delete", "step_override.delete")
def _(staff: Staff) -> Callable[[], object]:
    _override(staff)
    return lambda: staff.post("runs/stepoverride/outline/delete/", {"post": "yes"})


def _override(staff: Staff) -> None:
    with tenant_context(staff.tenant):
        values = {"llm_provider": "local", "output_limit": 64}
        StepOverride.objects.update_or_create(step="outline", defaults=values)


@change("tenant/auditlog/action export", "audit.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}audit/auditlog/export/")


@change("tenant/url costs", "cost.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}costs/?format=csv")


def _get(staff: Staff, address: str) -> None:
    response: Any = staff.browser.get(address)
    assert response.status_code in (200, 500)
    if response.status_code == 500:
        assert not response.streaming
