"""The pages of both sites open for the people who may see them."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.plugin import DjangoDbBlocker

from tests.support.staff import Filled

CONTROL_PAGES = [
    "/admin/",
    "/admin/password_change/",
    "/admin/account/",
    "/admin/llm/",
    "/admin/llm/llmprovider/",
    "/admin/llm/llmprovider/add/",
    "/admin/llm/llmprovider/local/change/",
    "/admin/llm/llmprovider/local/delete/",
    "/admin/llm/llmmodel/",
    "/admin/llm/llmmodel/add/",
    "/admin/llm/llmmodel/import_prices/",
    "/admin/llm/stepllmdefault/",
    "/admin/llm/stepllmdefault/add/",
    "/admin/llm/stepllmdefault/draft/change/",
    "/admin/tenants/databaseserver/",
    "/admin/tenants/databaseserver/add/",
    "/admin/tenants/databaseserver/main/change/",
    "/admin/tenants/tenant/",
    "/admin/tenants/tenant/add/",
    "/admin/tenants/tenantschema/",
    "/admin/tenants/tenantschema/?state=behind&drift=yes",
    "/admin/tenants/migrationbatch/",
    "/admin/tenants/operationrequest/",
    "/admin/tenants/approval/",
    "/admin/tenants/backup/",
    "/admin/tenants/backup/?q=nobody",
    "/admin/tenants/restore/",
    "/admin/tenants/restore/?q=nobody",
    "/admin/tenants/basebackup/",
    "/admin/tenants/erasure/",
    "/admin/tenants/erasure/?q=nobody",
    "/admin/audit_control/auditanchor/",
    "/admin/audit_control/auditanchor/?log=control&q=nobody",
    "/admin/audit_control/auditarchive/",
    "/admin/audit_control/auditarchive/?q=nobody",
    "/admin/audit_control/archivedauditlog/",
    "/admin/audit_control/archivedauditlog/?event=run.create&tenant=nobody&q=nobody",
    "/admin/audit_control/controlauditlog/",
    "/admin/audit_control/controlauditlog/?event=tenant.create&q=nobody",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/tenants/temporaryaccess/",
    "/admin/tenants/tenantgroup/",
    "/admin/tenants/tenantgroup/add/",
    "/admin/sign-ins/",
    "/admin/costs/",
]
TENANT_PAGES = [
    "",
    "runs/",
    "runs/run/",
    "runs/run/?status__exact=completed&q=keyword",
    "runs/run/add/",
    "runs/run/{run}/change/",
    "runs/step/",
    "runs/step/{step}/change/",
    "runs/artifact/",
    "runs/artifact/{artifact}/change/",
    "costs/",
    "runs/runcost/",
    "runs/stepoverride/",
    "runs/stepoverride/add/",
    "runs/runcost/{run}/change/",
    "prompts/prompt/",
    "prompts/prompt/add/",
    "prompts/prompt/1/change/",
    "audit/auditlog/",
    "audit/auditlog/1/change/",
]
LANGUAGES = ["en", "ja"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", CONTROL_PAGES)
def test_every_page_of_the_control_site_opens(browser: Client, page: str, language: str) -> None:
    # A provider that is in use has no page for its deletion: staff return to its page, which says why.
    response = browser.get(page, headers={"accept-language": language}, follow=True)
    assert response.status_code == 200, page
    assert f'<html lang="{language}"' in response.content.decode()


def test_every_page_of_a_tenants_site_opens(browser: Client, filled: Filled) -> None:
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    for page in TENANT_PAGES:
        for language in LANGUAGES:
            path = filled.site + page.format(**ids)
            response = browser.get(path, headers={"accept-language": language})
            assert response.status_code == 200, path
            assert filled.tenant.name in response.content.decode(), path


def test_every_registered_model_is_among_the_pages(filled: Filled, browser: Client) -> None:
    from config.site.sites import control_site, tenant_site

    control = {f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in control_site._registry}
    tenant = {f"{model._meta.app_label}/{model._meta.model_name}/" for model in tenant_site._registry}
    assert control <= set(CONTROL_PAGES)
    assert tenant <= set(TENANT_PAGES)


def test_pages_about_one_object_open(browser: Client, filled: Filled, superuser: User, staff: User) -> None:
    for page in (
        f"/admin/tenants/tenant/{filled.tenant.id}/change/",
        f"/admin/auth/user/{superuser.pk}/change/",
        f"/admin/auth/user/{staff.pk}/password/",
        f"/admin/auth/user/{superuser.pk}/delete/",
    ):
        assert browser.get(page).status_code == 200, page


@pytest.mark.parametrize("page", ["/admin/", "/admin/llm/llmmodel/", "/admin/tenants/tenant/add/"])
def test_the_control_site_asks_for_a_login(page: str) -> None:
    response = Client().get(page)
    assert response.status_code == 302
    assert response["Location"] == f"/admin/login/?next={page}"


def test_a_tenants_site_asks_for_the_same_login_and_tells_nobody_which_tenants_exist(filled: Filled) -> None:
    for page in (filled.site, f"{filled.site}runs/run/", "/t/no-such-tenant/admin/"):
        response = Client().get(page)
        assert response.status_code == 302, page
        assert response["Location"].startswith("/admin/login/?next=/t/"), page


def test_staff_without_a_role_see_nothing(staff: User, filled: Filled) -> None:
    client = Client()
    client.force_login(staff)
    assert filled.tenant.id not in client.get("/admin/").content.decode()
    for page in CONTROL_PAGES[6:]:
        assert client.get(page).status_code in {302, 403}, page
    download = f"{filled.site}runs/artifact/{filled.artifact.pk}/download/"
    for page in (filled.site, filled.site + "runs/run/", filled.site + "runs/run/add/", download):
        assert client.get(page).status_code == 404, page


def test_a_customer_account_that_is_not_staff_sees_no_tenant(filled: Filled) -> None:
    user = User.objects.create_user(f"visitor-{filled.tenant.id}", password="a long enough password 1")
    client = Client()
    client.force_login(user)
    assert client.get(filled.site).status_code == 302
    assert client.get("/admin/").status_code == 302
    user.delete()


def test_the_short_addresses_lead_to_the_sites(browser: Client, filled: Filled) -> None:
    assert browser.get("/")["Location"] == "/admin/"
    for short in (f"/t/{filled.tenant.id}", f"/t/{filled.tenant.id}/"):
        assert browser.get(short)["Location"] == filled.site
    assert browser.get(filled.site.rstrip("/"))["Location"] == filled.site


def test_a_page_that_does_not_exist_is_not_found(browser: Client, filled: Filled) -> None:
    assert browser.get("/admin/nothing/here/").status_code == 404
    assert browser.get(f"{filled.site}nothing/here/").status_code == 404


@pytest.mark.parametrize("left_out", ["r/1/1/"])
def test_pages_that_would_mix_tenants_are_left_out(browser: Client, filled: Filled, left_out: str) -> None:
    assert browser.get(f"/admin/{left_out}").status_code == 404
    assert browser.get(f"{filled.site}{left_out}").status_code == 404


def test_checking_the_sites_needs_no_database(django_db_blocker: DjangoDbBlocker) -> None:
    """`manage.py migrate` checks the sites before the first table exists."""
    from config.site.sites import control_site, tenant_site

    with django_db_blocker.block():
        assert control_site.check(None) == tenant_site.check(None) == []
