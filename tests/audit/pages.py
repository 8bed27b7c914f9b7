"""Everything that staff can do in the admin: how a browser does it, and which entry it writes.

The names are made of what the sites register: "control/llmmodel/add", "tenant/prompt/action activate".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory
from django.urls import URLPattern

from config.site.sites import StaffSite, control_site, tenant_site
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.models import Prompt
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import DatabaseServer, Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.support.staff import PASSWORD, Filled
from tests.support.tenant_fixtures import remove_all

SITES: dict[str, StaffSite] = {"control": control_site, "tenant": tenant_site}
UNFOLD_ACTIONS = ("actions_list", "actions_row", "actions_detail", "actions_submit_line")
# Addresses of each model that its permissions cover, or that only display.
STANDARD = ("changelist", "add", "change", "delete", "history")
VARIABLES = '[{"name": "keyword", "type": "string", "required": true}]'
CONFIRMED = {"_form_submitted": "on"}

# What writes no entry, and why.
WITHOUT_ENTRY = {
    # Redirects to the form for a new version.
    "tenant/prompt/action copy",
    # Django's redirect from an address without "change/".
    *(f"{site}/{model._meta.model_name}/url" for site, found in SITES.items() for model in found._registry),
    # They display, sign in or out, or change only the session.
    *(
        f"{site}/url {name}"
        for site in SITES
        for name in ("index", "login", "logout", "jsi18n", "autocomplete", "app_list", "password_change_done")
    ),
    # Redirects to the control site's page.
    "tenant/url password_change",
    # The certificate that the erasure's page shows too: ids, sizes and digests.
    "control/erasure/url tenants_erasure_certificate",
    # An address that does not exist.
    *(f"{site}/url" for site in SITES),
}


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
        """Send a form; a path that does not start with "/" is on the tenant's site."""
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
    """Return the names of everything that the sites offer to the user."""
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
    # Every supported provider exists already: remove one.
    provider, models = LLMProvider.objects.get(pk="gemini"), list(LLMModel.objects.filter(provider_id="gemini"))
    defaults = list(StepLLMDefault.objects.filter(provider_id="gemini"))

    def put_back() -> None:
        provider.save()
        for row in (*models, *defaults):
            row.save()

    staff.afterwards(put_back)
    StepLLMDefault.objects.filter(provider_id="gemini").delete()
    LLMModel.objects.filter(provider_id="gemini").delete()
    LLMProvider.objects.filter(pk="gemini").delete()
    return lambda: staff.post("/admin/llm/llmprovider/add/", {"id": "gemini", "display_name": "Gemini"})


@change("control/llmprovider/change", "llm.provider.change")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(LLMProvider.objects.get(pk="gemini").save)
    return lambda: staff.post("/admin/llm/llmprovider/gemini/change/", {"display_name": "Renamed", "is_active": "on"})


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


@change("control/stepllmdefault/add", "step_default.create")
def _(staff: Staff) -> Callable[[], object]:
    staff.afterwards(lambda: StepLLMDefault.objects.filter(pk="extra").delete())
    form = {"step": "extra", "position": "99", "provider": "openai", "model_class": "standard"}
    return lambda: staff.post("/admin/llm/stepllmdefault/add/", form)


@change("control/stepllmdefault/change", "step_default.change")
def _(staff: Staff) -> Callable[[], object]:
    default = StepLLMDefault.objects.get(pk="draft")
    staff.afterwards(default.save)
    form = {"position": default.position, "provider": _other(default), "model_class": default.model_class}
    return lambda: staff.post("/admin/llm/stepllmdefault/draft/change/", form)


@change("control/stepllmdefault/delete", "step_default.delete")
def _(staff: Staff) -> Callable[[], object]:
    made = StepLLMDefault.objects.create(step="extra", position=99, provider_id="openai", model_class="standard")
    staff.afterwards(lambda: StepLLMDefault.objects.filter(pk=made.pk).delete())
    return lambda: staff.post("/admin/llm/stepllmdefault/extra/delete/", {"post": "yes"})


@change("control/stepllmdefault/list", "step_default.change")
def _(staff: Staff) -> Callable[[], object]:
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


@change("control/user/add", "user.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"new-{uuid4().hex[:8]}"
    staff.afterwards(lambda: User.objects.filter(username=name).delete())
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    return lambda: staff.post("/admin/auth/user/add/", form)


@change("control/user/change", "user.change")
def _(staff: Staff) -> Callable[[], object]:
    user = _new_user(staff)
    form = {"username": user.username, "is_active": "on", "first_name": "Renamed"}
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


@change("control/group/add", "group.create")
def _(staff: Staff) -> Callable[[], object]:
    name = f"group-{uuid4().hex[:8]}"
    staff.afterwards(lambda: Group.objects.filter(name__startswith=name).delete())
    return lambda: staff.post("/admin/auth/group/add/", {"name": name})


@change("control/group/change", "group.change")
def _(staff: Staff) -> Callable[[], object]:
    group = _new_group(staff)
    return lambda: staff.post(f"/admin/auth/group/{group.pk}/change/", {"name": f"{group.name} renamed"})


@change("control/group/delete", "group.delete")
def _(staff: Staff) -> Callable[[], object]:
    group = _new_group(staff)
    return lambda: staff.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})


def _new_group(staff: Staff) -> Group:
    group = Group.objects.create(name=f"group-{uuid4().hex[:8]}")
    staff.afterwards(lambda: Group.objects.filter(pk=group.pk).delete())
    return group


@change("control/controlauditlog/action export", "audit.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, "/admin/audit_control/controlauditlog/export/")


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


@change("tenant/prompt/add", "prompt.create")
def _(staff: Staff) -> Callable[[], object]:
    form = {"step": "draft", "content": "Write about {{ keyword }}.", "variables": VARIABLES}
    return lambda: staff.post("prompts/prompt/add/", form)


@change("tenant/prompt/change", "prompt.change")
def _(staff: Staff) -> Callable[[], object]:
    form = {"content": "Now about {{ keyword }}", "variables": VARIABLES}
    draft = staff.draft()
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/change/", form)


@change("tenant/prompt/action activate", "prompt.activate")
def _(staff: Staff) -> Callable[[], object]:
    draft = staff.draft()
    return lambda: staff.post(f"prompts/prompt/{draft.pk}/activate/", CONFIRMED)


@change("tenant/artifact/url runs_artifact_download", "artifact.read")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}runs/artifact/{staff.filled.artifact.pk}/download/")


@change("tenant/auditlog/action export", "audit.export")
def _(staff: Staff) -> Callable[[], object]:
    return lambda: _get(staff, f"{staff.filled.site}audit/auditlog/export/")


def _get(staff: Staff, address: str) -> None:
    response: Any = staff.browser.get(address)
    assert response.status_code in (200, 500)
    if response.status_code == 500:
        assert not response.streaming
