"""One tenant's site never shows, changes or hands out anything of another tenant."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import Client, RequestFactory
from django.urls import get_script_prefix, reverse

from audit.models import AuditLog
from prompts.models import Prompt
from runs.models import Run
from tenants.errors import TenantNotActive
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import current_tenant, current_tenant_or_none, tenant_context
from tenants.routing.middleware import TenantMiddleware
from tests.support.staff import Filled


def test_an_object_of_one_tenant_is_not_reachable_under_another(
    browser: Client, filled_pair: tuple[Filled, Filled]
) -> None:
    ours, theirs = filled_pair
    page = f"runs/run/{ours.run.pk}/change/"
    assert browser.get(ours.site + page).status_code == 200
    response = browser.get(theirs.site + page, follow=True)
    assert ours.keyword.split()[1] not in response.content.decode()
    assert response.redirect_chain[-1][0] == theirs.site
    with tenant_context(ours.tenant):
        Run.objects.filter(pk=ours.run.pk).update(config={"keyword": "only ours"})
    for listing in ("", "runs/run/", "runs/step/", "runs/artifact/", "runs/runcost/", "audit/auditlog/"):
        html = browser.get(theirs.site + listing).content.decode()
        assert "only ours" not in html and str(ours.run.pk) not in html
        assert f"/t/{ours.tenant.id}/admin/runs/" not in html


def test_links_on_a_tenants_pages_stay_on_its_site(browser: Client, filled: Filled) -> None:
    html = browser.get(f"{filled.site}runs/run/{filled.run.pk}/change/").content.decode()
    assert f'href="{filled.site}runs/' in html
    assert 'href="/admin/runs/' not in html


def test_a_prompt_of_one_tenant_is_edited_in_its_own_database_only(
    browser: Client, tenant_pair: tuple[Tenant, Tenant]
) -> None:
    first, second = tenant_pair
    ids = {}
    for tenant in tenant_pair:
        with tenant_context(tenant):
            prompt = Prompt.objects.create(step="draft", version=77, content="before", variables=[], is_active=False)
            ids[tenant.id] = prompt.pk
    assert ids[first.id] == ids[second.id]
    page = f"/t/{first.id}/admin/prompts/prompt/{ids[first.id]}/change/"
    assert browser.post(page, {"content": "after", "variables": "[]", "note": "n"}).status_code == 302
    for tenant, content in ((first, "after"), (second, "before")):
        with tenant_context(tenant):
            assert Prompt.objects.get(pk=ids[tenant.id]).content == content


def test_what_is_done_on_one_site_is_in_that_tenants_log_only(
    browser: Client, filled_pair: tuple[Filled, Filled]
) -> None:
    ours, theirs = filled_pair
    browser.get(f"{ours.site}runs/artifact/{ours.artifact.pk}/download/")
    for filled, count in ((ours, 1), (theirs, 0)):
        with tenant_context(filled.tenant):
            assert AuditLog.objects.filter(action="artifact.read").count() == count


def test_nothing_of_a_request_stays_behind(browser: Client, filled: Filled) -> None:
    prefix = get_script_prefix()
    for page in ("runs/run/", "nothing/", f"runs/artifact/{filled.artifact.pk}/download/"):
        response = browser.get(filled.site + page)
        assert get_script_prefix() == prefix and current_tenant_or_none() is None
        if response.streaming:
            list(response)
        assert get_script_prefix() == prefix and current_tenant_or_none() is None


def test_a_streamed_response_is_made_in_its_tenants_context_and_leaves_none(
    superuser: User, tenant_pair: tuple[Tenant, Tenant]
) -> None:
    """One thread reads two responses alternately, as a server may."""

    def chunks() -> Iterator[str]:
        for _number in range(3):
            yield f"{current_tenant().id} {reverse('admin:index')}\n"

    middleware = TenantMiddleware(lambda request: StreamingHttpResponse(chunks()))
    streams = []
    for tenant in tenant_pair:
        request = RequestFactory().get(f"/t/{tenant.id}/admin/")
        request.user = superuser
        response = middleware(request)
        assert isinstance(response, StreamingHttpResponse)
        streams.append((tenant.id, iter(response)))
    for _number in range(3):
        for tenant_id, stream in streams:
            assert next(stream) == f"{tenant_id} /t/{tenant_id}/admin/\n".encode()
            assert current_tenant_or_none() is None and get_script_prefix() == "/"
    for _tenant_id, stream in streams:
        assert next(stream, None) is None


def test_a_suspension_ends_a_stream_that_is_under_way(superuser: User, tenant: Tenant) -> None:
    request = RequestFactory().get(f"/t/{tenant.id}/admin/")
    request.user = superuser
    stream = iter(TenantMiddleware(lambda request: StreamingHttpResponse(["first", "second"]))(request))
    assert next(stream) == b"first"
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.SUSPENDED, is_active=False)
    with pytest.raises(TenantNotActive):
        next(stream)


def test_an_unknown_tenant_is_not_found(browser: Client) -> None:
    response = browser.get(f"/t/{uuid4().hex}/admin/")
    assert response.status_code == 404
    assert "There is no tenant" in response.content.decode()


@pytest.mark.parametrize(
    "hostile", ["/t/%3Cscript%3E/admin/", "/t/a%00b/admin/", "/t/..%2f/admin/", "/t/%E8%A8%98/admin/"]
)
def test_a_hostile_address_is_not_found(browser: Client, hostile: str) -> None:
    response = browser.get(hostile)
    assert response.status_code == 404
    assert "<script>" not in response.content.decode()


def test_a_suspended_tenant_is_closed(browser: Client, filled: Filled) -> None:
    Tenant.objects.filter(pk=filled.tenant.pk).update(status=TenantStatus.SUSPENDED, is_active=False)
    response = browser.get(f"{filled.site}runs/run/{filled.run.pk}/change/")
    assert response.status_code == 403
    html = response.content.decode()
    assert "is suspended" in html and filled.keyword.split()[1] not in html


def test_a_database_that_went_away_is_one_sentence(browser: Client, tenant: Tenant) -> None:
    url = tenant.database_url
    secret = url.split(":")[2].split("@")[0]
    Tenant.objects.filter(pk=tenant.pk).update(database_url=url.rsplit("/", 1)[0] + "/no_such_database")
    response = browser.get(f"/t/{tenant.id}/admin/runs/run/")
    Tenant.objects.filter(pk=tenant.pk).update(database_url=url)
    assert response.status_code == 503
    html = response.content.decode()
    assert f"Tenant {tenant.id}: its database cannot be used" in html
    assert secret not in html


def test_a_database_of_another_tenant_behind_the_address_is_refused(
    browser: Client, filled_pair: tuple[Filled, Filled]
) -> None:
    ours, theirs = filled_pair
    url = ours.tenant.database_url
    Tenant.objects.filter(pk=ours.tenant.pk).update(database_url=theirs.tenant.database_url)
    response = browser.get(f"{ours.site}runs/run/")
    Tenant.objects.filter(pk=ours.tenant.pk).update(database_url=url)
    assert response.status_code == 503
    assert theirs.keyword.split()[1] not in response.content.decode()
