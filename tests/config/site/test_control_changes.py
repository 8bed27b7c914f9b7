"""Changes by staff on the control site are checked and audited in the same transaction, and never show a secret."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from tenants.models import DatabaseServer, Tenant, TenantGroup, TenantStatus
from tests.config.site.forms import Browser
from tests.support.staff import PASSWORD, give_role, roles_form
from tests.support.tenant_fixtures import remove

# What the form of a provider always sends.
OPENAI = {"wire": "openai", "key_variable": "OPENAI_API_KEY"}
GEMINI = {"wire": "gemini", "key_variable": "GEMINI_API_KEY"}


@pytest.fixture
def model() -> Iterator[LLMModel]:
    made = LLMModel.objects.create(
        provider_id="openai", model_name=f"model-{uuid4().hex[:8]}", model_class="pro", is_active=False
    )
    yield made
    made.delete()


@pytest.fixture
def draft_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepLLMDefault]:
    """The pipeline's step "draft", restored afterwards, and a key for every provider."""
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "sk-test")
    default = StepLLMDefault.objects.get(pk="draft")
    yield default
    default.save()


def entries(action: str, resource_id: object, user: User) -> list[ControlAuditLog]:
    return list(
        ControlAuditLog.objects.filter(
            action=action, resource_id=str(resource_id), user_id=f"staff:{user.username}"
        ).order_by("id")
    )


def test_a_price_edited_on_its_page_is_audited(browser: Client, model: LLMModel, superuser: User) -> None:
    form = {
        "provider": "openai",
        "model_name": model.model_name,
        "model_class": "pro",
        "cost_per_1k_input_tokens": "0.0125",
        "cost_per_1k_output_tokens": "",
    }
    response = browser.post(f"/admin/llm/llmmodel/{model.pk}/change/", form)
    assert response.status_code == 302
    model.refresh_from_db()
    assert model.cost_per_1k_input_tokens == Decimal("0.0125")
    (entry,) = entries("llm.model.change", model.pk, superuser)
    assert entry.details == {
        "name": str(model),
        "fields": ["cost_per_1k_input_tokens"],
        "changes": {"cost_per_1k_input_tokens": [None, "0.0125"]},
    }
    [price] = model.prices.all()
    assert (price.prices, price.source, price.made_by) == ({"input": "0.0125"}, "hand", f"staff:{superuser.username}")
    assert entry.resource_type == "llm_model" and entry.operation_id


def test_a_save_without_a_change_is_no_event(browser: Client, model: LLMModel, superuser: User) -> None:
    form = {"provider": "openai", "model_name": model.model_name, "model_class": "pro"}
    assert browser.post(f"/admin/llm/llmmodel/{model.pk}/change/", form).status_code == 302
    assert entries("llm.model.change", model.pk, superuser) == []


def test_a_price_edited_in_the_list_is_audited(browser: Client, model: LLMModel, superuser: User) -> None:
    form = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": str(model.pk),
        "form-0-cost_per_1k_input_tokens": "0.5",
        "form-0-cost_per_1k_output_tokens": "1.5",
        "_save": "Save",
    }
    assert browser.post(f"/admin/llm/llmmodel/?q={model.model_name}", form).status_code == 302
    model.refresh_from_db()
    assert model.cost_per_1k_output_tokens == Decimal("1.5")
    (entry,) = entries("llm.model.change", model.pk, superuser)
    assert entry.details is not None
    assert entry.details["fields"] == ["cost_per_1k_input_tokens", "cost_per_1k_output_tokens"]
    assert entry.details["changes"]["cost_per_1k_output_tokens"] == [None, "1.5"]
    [price] = model.prices.all()
    assert (price.prices, price.made_by) == ({"input": "0.5", "output": "1.5"}, f"staff:{superuser.username}")


def test_creating_and_deleting_are_audited(browser: Client, superuser: User) -> None:
    name = f"model-{uuid4().hex[:8]}"
    form = {"provider": "openai", "model_name": name, "model_class": "standard", "is_active": ""}
    assert browser.post("/admin/llm/llmmodel/add/", form).status_code == 302
    made = LLMModel.objects.get(model_name=name)
    assert len(entries("llm.model.create", made.pk, superuser)) == 1
    assert browser.post(f"/admin/llm/llmmodel/{made.pk}/delete/", {"post": "yes"}).status_code == 302
    (entry,) = entries("llm.model.delete", made.pk, superuser)
    values = {"provider": "openai", "model_name": name, "model_class": "standard", "is_active": False}
    assert entry.details == {"name": f"openai/{name}", "values": values}
    assert not LLMModel.objects.filter(pk=made.pk).exists()


def test_a_change_that_cannot_be_audited_does_not_happen(browser: Client, model: LLMModel) -> None:
    form = {"provider": "openai", "model_name": "changed", "model_class": "pro"}
    with patch("audit.log.entries.ACTIONS", frozenset()):
        response = browser.post(f"/admin/llm/llmmodel/{model.pk}/change/", form, follow=True)
    assert "is not an audited action" in response.content.decode()
    name = model.model_name
    model.refresh_from_db()
    assert model.model_name == name


def test_a_step_is_switched_to_another_provider_in_the_list(
    browser: Client, draft_default: StepLLMDefault, superuser: User
) -> None:
    steps = list(StepLLMDefault.objects.order_by("position", "step"))
    form: dict[str, Any] = {"form-TOTAL_FORMS": len(steps), "form-INITIAL_FORMS": len(steps), "_save": "Save"}
    for number, step in enumerate(steps):
        provider = "claude" if step.pk == "draft" else step.provider_id
        form |= {
            f"form-{number}-step": step.pk,
            f"form-{number}-position": step.position,
            f"form-{number}-provider": provider,
            f"form-{number}-model_class": step.model_class,
        }
    assert browser.post("/admin/llm/stepllmdefault/", form).status_code == 302
    assert StepLLMDefault.objects.get(pk="draft").provider_id == "claude"
    assert entries("step_default.change", "draft", superuser)[-1].details == {
        "name": "draft",
        "fields": ["provider"],
        "changes": {"provider": [draft_default.provider_id, "claude"]},
    }


def test_a_routing_that_no_run_could_use_is_refused(browser: Client, draft_default: StepLLMDefault) -> None:
    models = LLMModel.objects.filter(provider_id="gemini", is_active=True)
    active = list(models.values_list("pk", flat=True))
    models.update(is_active=False)
    form = {"step": "draft", "position": draft_default.position, "provider": "gemini", "model_class": "pro"}
    response = browser.post("/admin/llm/stepllmdefault/draft/change/", form)
    LLMModel.objects.filter(pk__in=active).update(is_active=True)
    assert response.status_code == 200
    assert "has no active model" in response.content.decode()
    assert StepLLMDefault.objects.get(pk="draft").provider_id == draft_default.provider_id


def test_a_routing_to_a_provider_that_no_key_may_be_sent_to_is_refused(
    browser: Client, draft_default: StepLLMDefault
) -> None:
    url = "https://api.mistral.ai/v1"
    mistral = LLMProvider.objects.create(id="mistral", display_name="Mistral", api_base_url=url)
    model = LLMModel.objects.create(provider=mistral, model_name="mistral-large", model_class="pro")
    form = {"step": "draft", "position": draft_default.position, "provider": "mistral", "model_class": "pro"}
    response = browser.post("/admin/llm/stepllmdefault/draft/change/", form)
    model.delete()
    mistral.delete()
    assert response.status_code == 200
    assert "mistral points to api.mistral.ai, which is not an allowed host" in response.content.decode()
    assert StepLLMDefault.objects.get(pk="draft").provider_id == draft_default.provider_id


MISTRAL = {
    "id": "mistral",
    "display_name": "Mistral",
    "wire": "openai",
    "api_base_url": "https://api.mistral.ai/v1",
    "key_variable": "MISTRAL_API_KEY",
    "is_active": "on",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "mistral points to api.mistral.ai, which is not an allowed host"),
        ({"api_base_url": ""}, "mistral calls api.openai.com, but its key variable is not named for that vendor"),
        (
            {"api_base_url": "", "key_variable": ""},
            "mistral uses its vendor&#x27;s own server, but has no key variable",
        ),
        ({"key_variable": "DATABASE_URL"}, "The key variable of the provider mistral is not a valid name"),
        ({"key_variable": "sk-2f8b1c9d7e60"}, "The key variable of the provider mistral is not a valid name"),
        (
            {"id": "Mistral AI/eu"},
            "Use at most 40 lower-case letters, digits, - and _, starting with a letter or digit.",
        ),
        ({"wire": "cohere"}, "cohere is not one of the available choices"),
    ],
)
def test_a_provider_that_could_not_be_called_is_not_added(
    browser: Client, changes: dict[str, str], message: str
) -> None:
    response = browser.post("/admin/llm/llmprovider/add/", {**MISTRAL, **changes})
    assert response.status_code == 200
    assert message in response.content.decode()
    assert not LLMProvider.objects.filter(display_name="Mistral").exists()


def test_any_provider_on_an_allowed_host_is_added(
    browser: Client, superuser: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LLM_ALLOWED_HOSTS = ["api.mistral.ai"]
    assert browser.post("/admin/llm/llmprovider/add/", MISTRAL).status_code == 302
    mistral = LLMProvider.objects.get(pk="mistral")
    page = browser.get("/admin/llm/llmprovider/").content.decode()
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-1")
    with_key = browser.get("/admin/llm/llmprovider/").content.decode()
    renamed = {**MISTRAL, "id": "other", "key_variable": "MISTRAL_EU_API_KEY"}
    assert browser.post("/admin/llm/llmprovider/mistral/change/", renamed).status_code == 302
    ids = set(LLMProvider.objects.values_list("pk", flat=True))
    mistral.delete()
    assert (mistral.wire, mistral.key_variable) == ("openai", "MISTRAL_API_KEY")
    assert "MISTRAL_API_KEY is missing or invalid" in page and "MISTRAL_API_KEY is missing or" not in with_key
    assert "mistral" in ids and "other" not in ids
    (entry,) = entries("llm.provider.change", "mistral", superuser)
    assert entry.details == {
        "name": str(mistral),
        "fields": ["key_variable"],
        "changes": {"key_variable": ["MISTRAL_API_KEY", "MISTRAL_EU_API_KEY"]},
    }


@pytest.fixture
def openai_provider() -> Iterator[LLMProvider]:
    """The provider "openai", whose API address is restored afterwards."""
    provider = LLMProvider.objects.get(pk="openai")
    yield provider
    LLMProvider.objects.filter(pk="openai").update(api_base_url=provider.api_base_url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8080", "is not a plain URL"),
        ("https://user:key@api.openai.com", "is not a plain URL"),
        ("ftp://host", "is not a plain URL"),
        ("https://ho st", "is not a plain URL"),
        ("http://api.openai.com/v1", "must start with https://"),
        ("http://127.0.0.1:29555/v1", "must start with https://"),
        ("https://elsewhere.example/v1", "points to elsewhere.example, which is not an allowed host"),
    ],
)
def test_an_api_address_that_may_not_be_called_is_refused(
    browser: Client, openai_provider: LLMProvider, url: str, message: str
) -> None:
    form = {"display_name": "OpenAI", "api_base_url": url, "is_active": "on", **OPENAI}
    response = browser.post("/admin/llm/llmprovider/openai/change/", form)
    assert response.status_code == 200 and message in response.content.decode()
    assert LLMProvider.objects.get(pk="openai").api_base_url == openai_provider.api_base_url


def test_the_entry_of_an_api_address_holds_where_keys_went_and_go(
    browser: Client, openai_provider: LLMProvider, superuser: User, settings: Settings
) -> None:
    settings.LLM_ALLOWED_HOSTS = ["proxy.example:8443"]
    page, url = "/admin/llm/llmprovider/openai/change/", "https://proxy.example:8443/v1"
    # As someone may have left it with SQL.
    LLMProvider.objects.filter(pk="openai").update(api_base_url="https://user:sesame@host")
    for value in (url, ""):
        form = {"display_name": openai_provider.display_name, "api_base_url": value, "is_active": "on", **OPENAI}
        assert browser.post(page, form).status_code == 302
    there, back = entries("llm.provider.change", "openai", superuser)
    assert there.details and there.details["changes"] == {"api_base_url": ["****", url]}
    assert back.details and back.details["changes"] == {"api_base_url": [url, None]}


def test_an_empty_api_address_is_null(browser: Client) -> None:
    provider = LLMProvider.objects.get(pk="gemini")
    form = {"display_name": provider.display_name, "api_base_url": "", "is_active": "on", **GEMINI}
    assert browser.post("/admin/llm/llmprovider/gemini/change/", form).status_code == 302
    provider.refresh_from_db()
    assert provider.api_base_url is None


def test_users_groups_and_passwords_are_audited_without_values(browser: Client, superuser: User) -> None:
    name = f"new-{uuid4().hex[:8]}"
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true", **roles_form()}
    assert browser.post("/admin/auth/user/add/", form).status_code == 302
    user = User.objects.get(username=name)
    assert len(entries("user.create", user.pk, superuser)) == 1
    new = {"password1": PASSWORD + "2", "password2": PASSWORD + "2", "usable_password": "true"}
    assert browser.post(f"/admin/auth/user/{user.pk}/password/", new).status_code == 302
    (entry,) = entries("user.change", user.pk, superuser)
    assert PASSWORD not in str(entry.details)
    assert browser.post("/admin/tenants/tenantgroup/add/", {"name": name}).status_code == 302
    group = TenantGroup.objects.get(name=name)
    assert len(entries("tenant_group.create", group.pk, superuser)) == 1
    group.delete()
    user.delete()


def test_changing_ones_own_password_is_audited(browser: Client, superuser: User) -> None:
    form = {"old_password": PASSWORD, "new_password1": PASSWORD + "3", "new_password2": PASSWORD + "3"}
    assert browser.post("/admin/password_change/", form).status_code == 302
    assert entries("user.change", superuser.pk, superuser)[-1].details == {"fields": ["password"]}


def test_history_leads_to_the_audit_log(browser: Client, model: LLMModel) -> None:
    response = browser.get(f"/admin/llm/llmmodel/{model.pk}/history/", follow=True)
    assert response.redirect_chain[0][0] == (
        f"/admin/audit_control/controlauditlog/?resource_type__exact=llm_model&resource_id__exact={model.pk}"
    )
    assert response.status_code == 200


# -- database servers ----------------------------------------------------------------------------------------------


@pytest.fixture
def server_url() -> str:
    return str(DatabaseServer.objects.get(pk="main").admin_url)


def test_the_administrators_url_is_never_shown(browser: Client, server_url: str, tenant: Tenant) -> None:
    secrets = {str(urlsplit(server_url).password), str(urlsplit(tenant.database_url).password)}
    for page in (
        "/admin/tenants/databaseserver/",
        "/admin/tenants/databaseserver/main/change/",
        "/admin/tenants/tenant/",
        f"/admin/tenants/tenant/{tenant.id}/change/",
        "/admin/audit_control/controlauditlog/",
    ):
        html = browser.get(page).content.decode()
        assert not [secret for secret in secrets if secret in html], page
    assert "****@" in browser.get("/admin/tenants/databaseserver/main/change/").content.decode()


def test_a_server_is_added_once_it_can_be_reached(browser: Client, server_url: str, superuser: User) -> None:
    name = f"server-{uuid4().hex[:8]}"
    form = {"name": name, "new_admin_url": server_url, "capacity": "3", "is_active": "on"}
    assert browser.post("/admin/tenants/databaseserver/add/", form).status_code == 302
    server = DatabaseServer.objects.get(pk=name)
    assert (server.admin_url, server.capacity, server.is_default) == (server_url, 3, False)
    assert len(entries("server.create", name, superuser)) == 1
    assert browser.post(f"/admin/tenants/databaseserver/{name}/delete/", {"post": "yes"}).status_code == 302
    assert not DatabaseServer.objects.filter(pk=name).exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs an administrator"),
        ("mysql://root:sesame@127.0.0.1/x", "must start with postgresql://"),
        ("postgresql://root:sesame@127.0.0.1:1/x", "cannot be reached"),
        ("postgresql://root:sesa%zzme@127.0.0.1/x", "must be followed by two hexadecimal digits"),
        (
            "postgresql://root:sesame@127.0.0.1/x?host=/var/run/postgresql",
            "contains an unsupported parameter: host",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_refused(browser: Client, url: str, message: str) -> None:
    name = f"server-{uuid4().hex[:8]}"
    response = browser.post("/admin/tenants/databaseserver/add/", {"name": name, "new_admin_url": url})
    html = response.content.decode()
    assert response.status_code == 200 and message in html
    assert "sesame" not in html and "sesa%zzme" not in html
    assert not DatabaseServer.objects.filter(pk=name).exists()


def test_superusers_alone_may_add_or_change_servers(staff: User, server_url: str) -> None:
    give_role(staff, "administrator")
    client = Browser()
    client.force_login(staff)
    assert client.get("/admin/tenants/databaseserver/main/change/").status_code == 200
    # No page reveals whether an address answers.
    probe = {"name": "probe", "new_admin_url": "postgresql://a:b@127.0.0.1:1/x", "is_active": "on"}
    for page, form in (
        ("add/", probe),
        ("main/change/", probe),
        ("main/change/", {"capacity": "3", "is_active": "on", "is_default": "on"}),
        ("main/delete/", {"post": "yes"}),
    ):
        response = client.post(f"/admin/tenants/databaseserver/{page}", form)
        assert response.status_code == 403 and "cannot be reached" not in response.content.decode()
    main = DatabaseServer.objects.get(pk="main")
    assert (main.admin_url, main.capacity) == (server_url, None)


@pytest.mark.parametrize("place", ["wal", "s3://", "../wal"])
def test_a_place_for_the_log_that_cannot_be_one_is_refused(browser: Client, place: str) -> None:
    before = DatabaseServer.objects.get(pk="main").wal_archive
    form = {"is_default": "on", "is_active": "on", "wal_archive": place}
    assert browser.post("/admin/tenants/databaseserver/main/change/", form).status_code == 200
    assert DatabaseServer.objects.get(pk="main").wal_archive == before


@pytest.mark.parametrize(
    "page",
    [
        "databaseserver/?admin_url__startswith=f",
        "databaseserver/?admin_url=f",
        "databaseserver/?admin_url__isnull=True",
        "tenant/?database_url__contains=f",
        "tenant/?server__admin_url__startswith=f",
        "databaseserver/?tenants__database_url__startswith=f",
        "backup/?tenant__database_url__startswith=f",
    ],
)
def test_a_column_that_holds_a_secret_cannot_be_searched_by_address(browser: Client, page: str) -> None:
    response = browser.get(f"/admin/tenants/{page}")
    assert response.status_code == 400 or response["Location"].endswith("?e=1")


def test_the_default_mark_moves(browser: Client, server_url: str, superuser: User) -> None:
    name = f"server-{uuid4().hex[:8]}"
    form = {"name": name, "new_admin_url": server_url, "is_default": "on", "is_active": "on"}
    assert browser.post("/admin/tenants/databaseserver/add/", form).status_code == 302
    assert list(DatabaseServer.objects.filter(is_default=True)) == [DatabaseServer.objects.get(pk=name)]
    back = {"is_default": "on", "is_active": "on"}
    assert browser.post("/admin/tenants/databaseserver/main/change/", back).status_code == 302
    assert list(DatabaseServer.objects.filter(is_default=True)) == [DatabaseServer.objects.get(pk="main")]
    assert DatabaseServer.objects.get(pk="main").admin_url == server_url
    DatabaseServer.objects.filter(pk=name).delete()
    # Each time, both servers get an entry.
    assert [entry.details for entry in entries("server.change", "main", superuser)] == [
        {"fields": ["is_default"], "default_is_now": name},
        {"name": "main", "fields": ["is_default"], "changes": {"is_default": [False, True]}},
    ]
    assert entries("server.change", name, superuser)[-1].details == {"fields": ["is_default"], "default_is_now": "main"}


# -- tenants -------------------------------------------------------------------------------------------------------


def test_a_tenant_is_created_suspended_and_resumed(browser: Client, superuser: User) -> None:
    tenant_id = f"made-{uuid4().hex[:8]}"
    response = browser.post("/admin/tenants/tenant/add/", {"name": tenant_id, "tenant_id": "", "server": ""})
    assert response.status_code == 302
    tenant = Tenant.objects.get(pk=tenant_id)
    assert tenant.status == TenantStatus.ACTIVE
    page = f"/admin/tenants/tenant/{tenant_id}"
    assert "Suspend" in browser.get(f"{page}/change/").content.decode()
    assert browser.get(f"{page}/suspend/").status_code == 200
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE, "viewing the dialog suspends no one"
    wrong = browser.post(f"{page}/suspend/", {"_form_submitted": "on", "reason": "unpaid\tbill"})
    assert "A reason cannot contain control characters." in wrong.content.decode()
    assert browser.post(f"{page}/suspend/", {"_form_submitted": "on"}).status_code == 302
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.SUSPENDED
    assert browser.get(f"/t/{tenant_id}/admin/").status_code == 403
    response = browser.post(f"{page}/resume/", {"_form_submitted": "on"}, headers={"hx-request": "true"})
    assert response["HX-Redirect"] == f"{page}/change/"
    assert browser.get(f"/t/{tenant_id}/admin/").status_code == 200
    for action in ("tenant.create", "tenant.suspend", "tenant.resume"):
        assert len(entries(action, tenant_id, superuser)) == 1, action
    remove(tenant)


def test_a_tenant_with_a_japanese_name_gets_a_numbered_id(browser: Client) -> None:
    name = f"株式会社さくら{uuid4().hex[:8]}"
    response = browser.post("/admin/tenants/tenant/add/", {"name": name, "tenant_id": ""})
    tenant = Tenant.objects.get(name=name)
    assert response.headers["Location"] == f"/admin/tenants/tenant/{tenant.id}/change/"
    assert re.fullmatch(r"tenant-[1-9]\d*", tenant.id)
    remove(tenant)


@pytest.mark.parametrize(
    ("typed", "stored"), [("\ufeffAcme\u200b", "Acme"), ("株式会社\u3000テスト", "株式会社\u3000テスト")]
)
def test_a_providers_name_loses_what_cannot_be_seen(browser: Client, typed: str, stored: str) -> None:
    provider = LLMProvider.objects.get(pk="gemini")
    form = {"display_name": typed, "api_base_url": "", "is_active": "on", **GEMINI}
    assert browser.post("/admin/llm/llmprovider/gemini/change/", form).status_code == 302
    assert LLMProvider.objects.get(pk="gemini").display_name == stored
    provider.save()


@pytest.mark.parametrize(
    ("typed", "message"),
    [("\u200b", "This field is required"), ("a\x1bb", "control characters"), ("a\x00", "control characters")],
)
def test_a_providers_name_that_cannot_be_shown_is_refused(browser: Client, typed: str, message: str) -> None:
    form = {"id": "nameless", "display_name": typed, "api_base_url": ""}
    assert message in browser.post("/admin/llm/llmprovider/add/", form).content.decode()
    assert not LLMProvider.objects.filter(pk="nameless").exists()


def test_a_move_that_is_not_possible_is_a_message(browser: Client, tenant: Tenant) -> None:
    response = browser.post(f"/admin/tenants/tenant/{tenant.id}/resume/", {"_form_submitted": "on"}, follow=True)
    assert f"The status of tenant {tenant.id} is active." in response.content.decode()


@pytest.mark.parametrize(
    ("name", "tenant_id", "message"),
    [
        ("", "", "This field is required"),
        ("x", "No Slug", "is not a tenant id"),
        ("\u200b", "", "A tenant needs a name"),
    ],
)
def test_a_tenant_that_cannot_be_made_is_refused(browser: Client, name: str, tenant_id: str, message: str) -> None:
    count = Tenant.objects.count()
    response = browser.post("/admin/tenants/tenant/add/", {"name": name, "tenant_id": tenant_id})
    assert response.status_code == 200 and message in response.content.decode()
    assert Tenant.objects.count() == count


@pytest.mark.parametrize("page", ["change", "delete"])
def test_tenants_are_neither_edited_nor_deleted_here(browser: Client, tenant: Tenant, page: str) -> None:
    response = browser.post(f"/admin/tenants/tenant/{tenant.id}/{page}/", {"name": "renamed", "post": "yes"})
    assert response.status_code == 403
    tenant.refresh_from_db()
    assert tenant.name != "renamed"


def test_the_audit_log_refuses_every_change(browser: Client) -> None:
    entry = ControlAuditLog.objects.order_by("id")[0]
    page = f"/admin/audit_control/controlauditlog/{entry.pk}"
    assert browser.get(f"{page}/change/").status_code == 200
    assert browser.post(f"{page}/change/", {"action": "forged"}).status_code == 403
    assert browser.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    assert browser.post("/admin/audit_control/controlauditlog/add/", {"action": "forged"}).status_code == 403
    assert not ControlAuditLog.objects.filter(action="forged").exists()


def test_a_forged_form_from_another_site_changes_nothing(superuser: User, tenant: Tenant) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    response = client.post(f"/admin/tenants/tenant/{tenant.id}/suspend/", {"_form_submitted": "on"})
    assert response.status_code == 403
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE
