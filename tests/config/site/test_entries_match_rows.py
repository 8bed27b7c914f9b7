"""An audit entry names exactly the fields that changed in the row: for every form of both sites.

Each editable field is changed on its own, as a browser would change it, and the entry is compared with the row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client, RequestFactory

from audit.control.models import ControlAuditLog
from audit.models import AuditEntry, AuditLog
from config.site.sites import StaffSite, control_site, tenant_site
from llm.clients.base_urls import VENDORS
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.models import Prompt
from runs.models import StepOverride
from tenants.models import DatabaseServer, Tenant, TenantGroup
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser, Fields, form_in
from tests.support.staff import Filled, fill_tenant, make_user
from tests.support.tenant_fixtures import remove

SITES: dict[str, StaffSite] = {"control": control_site, "tenant": tenant_site}
# Form fields that are stored in a column with another name.
COLUMN_OF = {"new_admin_url": "admin_url"}
VARIABLE = {"name": "keyword", "type": "string", "required": True}


@dataclass
class Desk:
    """A superuser with a browser, and a tenant."""

    browser: Client
    user: User
    tenant: Tenant

    def entered(self, site: str) -> AbstractContextManager[object]:
        return tenant_context(self.tenant) if site == "tenant" else nullcontext()

    def page(self, site: str, model: type[Model]) -> str:
        begin = f"/t/{self.tenant.id}/admin" if site == "tenant" else "/admin"
        return f"{begin}/{model._meta.app_label}/{model._meta.model_name}/"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[User, Filled]]:
    from tenants.lifecycle.create import tenant_create

    user, tenant = make_user(is_superuser=True), tenant_create(name=f"desk {uuid4().hex[:12]}")
    yield user, fill_tenant(tenant)
    remove(tenant)
    user.delete()


@pytest.fixture
def desk(shared: tuple[User, Filled]) -> Desk:
    user, filled = shared
    client = Browser()
    client.force_login(user)
    return Desk(client, user, filled.tenant)


# -- a row of each model that can be changed -----------------------------------------------------------------------

Make = Callable[[Desk], tuple[Model, Callable[[], object]]]
ROWS: dict[str, Make] = {}


def row(name: str) -> Callable[[Make], Make]:
    """Register a function that returns a row of the model (`site/model`) and a function to call after the test."""

    def enter(make: Make) -> Make:
        ROWS[name] = make
        return make

    return enter


@row("control/llmprovider")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    provider, before = LLMProvider.objects.get(pk="gemini"), settings.LLM_ALLOWED_HOSTS
    # Its key may go to any vendor, so that each field can be changed alone.
    settings.LLM_ALLOWED_HOSTS = [urlsplit(url).netloc for url in VENDORS.values()]

    def put_back() -> None:
        settings.LLM_ALLOWED_HOSTS = before
        provider.save()

    return LLMProvider.objects.get(pk="gemini"), put_back


@row("control/llmmodel")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    made = LLMModel.objects.create(
        provider_id="openai", model_name=f"model-{uuid4().hex[:8]}", model_class="pro", is_active=False
    )
    return made, LLMModel.objects.filter(pk=made.pk).delete


@row("control/stepllmdefault")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    default, patch = StepLLMDefault.objects.get(pk="draft"), pytest.MonkeyPatch()
    for variable in KEY_VARIABLES.values():
        patch.setenv(variable, "sk-test")

    def put_back() -> None:
        patch.undo()
        default.save()

    return StepLLMDefault.objects.get(pk="draft"), put_back


@row("control/databaseserver")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    main = DatabaseServer.objects.get(pk="main")
    made = DatabaseServer.objects.create(
        pk=f"server-{uuid4().hex[:8]}", admin_url=main.admin_url, owner_password=main.owner_password
    )

    def put_back() -> None:
        DatabaseServer.objects.filter(pk=made.pk).delete()
        DatabaseServer.objects.filter(pk="main").update(is_default=main.is_default)

    return made, put_back


@row("control/user")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    made = make_user(is_superuser=False)
    return made, User.objects.filter(pk=made.pk).delete


@row("control/tenantgroup")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    made = TenantGroup.objects.create(name=f"group-{uuid4().hex[:8]}")
    return made, TenantGroup.objects.filter(pk=made.pk).delete


@row("tenant/prompt")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    made = Prompt.objects.create(
        step="draft",
        version=100 + Prompt.objects.count(),
        content="{{ keyword }}",
        variables=[VARIABLE],
        is_active=False,
        note="n",
    )
    return made, lambda: None


@row("tenant/stepoverride")
def _(desk: Desk) -> tuple[Model, Callable[[], object]]:
    patch = pytest.MonkeyPatch()
    for variable in KEY_VARIABLES.values():
        patch.setenv(variable, "sk-test")
    made = StepOverride.objects.create(step="draft", llm_provider="openai")
    return made, patch.undo


# -- another value for a field -------------------------------------------------------------------------------------


def _another_server_url(desk: Desk, present: str) -> str:
    parts = urlsplit(DatabaseServer.objects.get(pk="main").admin_url)
    return str(urlunsplit(parts._replace(query="channel_binding=prefer")))


SPECIAL: dict[str, Callable[[Desk, str], str]] = {
    "new_admin_url": _another_server_url,
    "api_base_url": lambda desk, present: "https://generativelanguage.googleapis.com",
    "key_variable": lambda desk, present: "ANOTHER_API_KEY",
    "wal_archive": lambda desk, present: "s3://archive/of-this-test",
    "variables": lambda desk, present: json.dumps([{**VARIABLE, "description": "another"}]),
    "content": lambda desk, present: present + " changed",
    # The only provider that always has a model of each class.
    "provider": lambda desk, present: "openai" if present == "claude" else "claude",
    "llm_provider": lambda desk, present: "openai" if present == "claude" else "claude",
    "llm_model": lambda desk, present: "claude-opus-5-5",
    "fallbacks": lambda desk, present: "openai:pro",
    "email": lambda desk, present: "another@example.com",
}


def change_field(desk: Desk, data: Fields, name: str, field: forms.Field, prefix: str = "") -> Fields:
    """Return the form's data with another value in one field."""
    key, present = prefix + name, data.get(prefix + name, [])
    changed = {**data}
    if isinstance(field, forms.BooleanField):
        changed[key] = [] if present else ["on"]
    elif name in SPECIAL:
        changed[key] = [SPECIAL[name](desk, present[0] if present else "")]
    elif isinstance(field, forms.ModelMultipleChoiceField):
        assert field.queryset is not None
        choices = [str(pk) for pk in field.queryset.order_by("pk").values_list("pk", flat=True)]
        changed[key] = [*present, next(choice for choice in choices if choice not in present)]
    elif isinstance(field, forms.SplitDateTimeField):
        changed[f"{key}_0"], changed[f"{key}_1"] = ["2026-01-02"], ["03:04:05"]
    elif isinstance(field, forms.DateField):
        changed[key] = ["2026-01-02"]
    elif isinstance(field, forms.ChoiceField | forms.TypedChoiceField):
        changed[key] = [next(str(value) for value, _ in field.choices if value and str(value) not in present)]  # type: ignore[union-attr,misc]
    elif isinstance(field, forms.IntegerField | forms.DecimalField):
        changed[key] = ["7" if present != ["7"] else "8"]
    else:
        changed[key] = [f"{present[0] if present else ''}another"]
    return changed


def shown(obj: Model) -> dict[str, object]:
    """Return the row as it is now, with its many-to-many relations."""
    fresh = type(obj)._base_manager.get(pk=obj.pk)
    columns = {field.name: getattr(fresh, field.attname) for field in fresh._meta.concrete_fields}
    related = {
        field.name: sorted(getattr(fresh, field.name).values_list("pk", flat=True))
        for field in fresh._meta.many_to_many
    }
    return {**columns, **related}


def newest(site: str) -> int:
    log: Any = AuditLog if site == "tenant" else ControlAuditLog
    return log.objects.order_by("-id").values_list("id", flat=True).first() or 0


def entries_after(site: str, last: int, admin: Any, obj: Model) -> list[AuditEntry]:
    log: Any = AuditLog if site == "tenant" else ControlAuditLog
    return list(
        log.objects.filter(
            id__gt=last, action=f"{admin.audit_noun}.change", resource_id=str(obj.pk), details__has_key="fields"
        )
    )


def compare(entries: list[AuditEntry], before: dict[str, object], after: dict[str, object], field: str) -> None:
    changed = {name for name, value in after.items() if before[name] != value}
    assert changed, f"{field} was accepted, and not saved"
    assert len(entries) == 1
    details = entries[0].details
    assert details is not None
    named = {COLUMN_OF.get(name, name) for name in details["fields"]}
    assert named == changed, f"the entry names {named}, the row shows {changed}"


# -- the forms -----------------------------------------------------------------------------------------------------


def changeable() -> dict[str, Any]:
    """Return the model admins, by `site/model`, that allow a superuser to change something."""
    request = RequestFactory().get("/")
    request.user = User(is_active=True, is_staff=True, is_superuser=True)
    return {
        f"{site}/{model._meta.model_name}": admin
        for site, found in SITES.items()
        for model, admin in found._registry.items()
        if admin.has_change_permission(request)
    }


def test_every_form_has_a_row_to_try_it_with() -> None:
    assert set(changeable()) == set(ROWS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_field_that_an_entry_names_is_a_field_that_was_saved(name: str, desk: Desk) -> None:
    site, admin = name.split("/", maxsplit=1)[0], changeable()[name]
    with desk.entered(site):
        obj, put_back = ROWS[name](desk)
    page = f"{desk.page(site, type(obj))}{obj.pk}/change/"
    try:
        response: Any = desk.browser.get(page)
        editable = {
            name: field for name, field in response.context["adminform"].form.fields.items() if not field.disabled
        }
        assert editable
        for field_name, field in editable.items():
            html = desk.browser.get(page).content.decode()
            with desk.entered(site):
                data = change_field(desk, form_in(html, f"{type(obj)._meta.model_name}_form"), field_name, field)
                before, last = shown(obj), newest(site)
            answer: Any = desk.browser.post(page, data)
            refused = answer.context and answer.context.get("errors")
            assert answer.status_code == 302, f"{field_name}: {refused}"
            with desk.entered(site):
                compare(entries_after(site, last, admin, obj), before, shown(obj), field_name)
    finally:
        with desk.entered(site):
            put_back()


@pytest.mark.parametrize("name", sorted(name for name, admin in changeable().items() if admin.list_editable))
def test_each_field_of_a_list_that_an_entry_names_is_a_field_that_was_saved(name: str, desk: Desk) -> None:
    site, admin = name.split("/", maxsplit=1)[0], changeable()[name]
    with desk.entered(site):
        obj, put_back = ROWS[name](desk)
    page = desk.page(site, type(obj))
    try:
        for field_name in admin.list_editable:
            response: Any = desk.browser.get(page)
            formset = response.context["cl"].formset
            number = next(number for number, form in enumerate(formset.forms) if form.instance.pk == obj.pk)
            field = formset.forms[number].fields[field_name]
            data = form_in(response.content.decode(), "changelist-form")
            with desk.entered(site):
                data = change_field(desk, data, field_name, field, prefix=f"form-{number}-")
                before, last = shown(obj), newest(site)
            answer: Any = desk.browser.post(page, {**data, "_save": "Save"})
            assert answer.status_code == 302, f"{field_name}: {answer.context['cl'].formset.errors}"
            with desk.entered(site):
                compare(entries_after(site, last, admin, obj), before, shown(obj), field_name)
    finally:
        with desk.entered(site):
            put_back()


def test_the_entry_of_a_new_password_is_true(desk: Desk) -> None:
    user, put_back = ROWS["control/user"](desk)
    before, last = shown(user), newest("control")
    form = {"password1": "another long password 2", "password2": "another long password 2", "usable_password": "true"}
    assert desk.browser.post(f"/admin/auth/user/{user.pk}/password/", form).status_code == 302
    compare(entries_after("control", last, changeable()["control/user"], user), before, shown(user), "password")
    put_back()


def test_what_the_form_of_a_new_server_offers_is_saved(desk: Desk) -> None:
    name, url = f"server-{uuid4().hex[:8]}", DatabaseServer.objects.get(pk="main").admin_url
    form = {"name": name, "new_admin_url": url, "capacity": "3", "is_active": "on", "wal_archive": "s3://archive/new"}
    form["wal_restore_command"] = "touch pwned"
    assert desk.browser.post("/admin/tenants/databaseserver/add/", form).status_code == 302
    server = DatabaseServer.objects.get(pk=name)
    entry = ControlAuditLog.objects.get(action="server.create", resource_id=name)
    server.delete()
    assert (server.capacity, server.wal_archive, server.wal_restore_command) == (3, "s3://archive/new", "")
    assert entry.details is not None and "wal_restore_command" not in entry.details["fields"]
    assert {"capacity", "wal_archive"} <= set(entry.details["fields"])
