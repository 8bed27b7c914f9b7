"""NULs and malformed ids in URLs and forms cause no server error on either site."""

import pytest
from django.contrib.admin import ModelAdmin
from django.http import HttpResponseBase
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from config.site.sites import control_site, tenant_site
from tests.support.staff import PASSWORD, Filled

# Ids that no key can have: NUL, not a number, not a UUID, too large for a number, half an escape of Django's admin.
NO_IDS = ("%00", "abc", "a%00b", "99999999999999999999999", "-1", "_5F", "%FF", "1%2F2", "%E2%80%8B")
QUERIES = ("q=%00", "status__exact=%00", "%00=1", "p=%00", "o=%00", "e=%00", "all=%00", "_changelist_filters=q%3D%2500")
VALUES = ("%00", "abc", "99999999999999999999999", "")
OTHER_QUERIES = ("p=abc", "p=99999999999", "o=abc", "o=99.-1", "q=%FF", "nonsense=1", "nonsense__x=%00")


def pages(site: object) -> list[str]:
    """Return "app/model/" for each model that is registered on the site."""
    return sorted(f"{model._meta.app_label}/{model._meta.model_name}/" for model in site._registry)  # type: ignore[attr-defined]


def own_addresses(admin: ModelAdmin) -> list[str]:  # type: ignore[type-arg]
    """Return the endings of the URLs about one object, actions included: "change/", "activate/"."""
    routes = [str(url.pattern) for url in admin.get_urls()]
    return [route.partition(">/")[2] for route in routes if route.startswith("<path:object_id>/")]


def filters(admin: ModelAdmin) -> list[str]:  # type: ignore[type-arg]
    """Return the parameters of the list's own filters, and others that a model may or may not have."""
    names = [name for name in admin.list_filter if isinstance(name, str)]
    relations = {field.name for field in admin.model._meta.get_fields() if field.is_relation}
    return [
        *(f"{name}__exact" for name in names),
        *(f"{name}__id__exact" for name in names if name in relations or name == names[0]),
        *("id__exact", "pk", "created_at__gte"),
    ]


@pytest.mark.parametrize("page", pages(control_site))
def test_no_address_of_the_control_site_breaks(browser: Client, page: str) -> None:
    check(browser, "/admin/", page, control_site)


@pytest.mark.parametrize("page", pages(tenant_site))
def test_no_address_of_a_tenants_site_breaks(browser: Client, filled: Filled, page: str) -> None:
    check(browser, filled.site, page, tenant_site)


def check(browser: Client, prefix: str, page: str, site: object) -> None:
    admin = next(admin for model, admin in site._registry.items() if page == model_page(model))  # type: ignore[attr-defined]
    seen: set[str] = set()
    for ending in own_addresses(admin):
        for no_id in NO_IDS:
            address = f"{prefix}{page}{no_id}/{ending}"
            got = browser.get(address)
            # Either "not found" or, as in Django's admin for a well-formed id, the overview with a message.
            assert got.status_code in ((404,) if "%00" in no_id else (200, 302, 403, 404)), address
            follow(browser, got, seen)
            assert browser.post(address).status_code in (200, 302, 403, 404), address
    filtered = [f"{name}={value}" for name in filters(admin) for value in VALUES]
    for ending, queries in (("", [*QUERIES, *OTHER_QUERIES, *filtered]), ("add/", [*QUERIES, *OTHER_QUERIES])):
        for query in queries:
            got = browser.get(f"{prefix}{page}{ending}?{query}")
            assert got.status_code in (200, 302, 403), f"{page}{ending}?{query}"
            follow(browser, got, seen)


def follow(browser: Client, response: HttpResponseBase, seen: set[str]) -> None:
    """Follow a redirect unless its address is in `seen`: most redirects lead to the same few pages."""
    address = response.headers.get("Location", "")
    if address and address not in seen:
        seen.add(address)
        assert browser.get(address, follow=True).status_code in (200, 403, 404), address


def model_page(model: type) -> str:
    return f"{model._meta.app_label}/{model._meta.model_name}/"  # type: ignore[attr-defined]


def test_the_known_ones_are_not_found(browser: Client, filled: Filled) -> None:
    for address in ("prompts/prompt/abc/change/", "prompts/prompt/%00/change/", "runs/run/abc/change/"):
        assert browser.get(filled.site + address).status_code == 404, address
    assert browser.get("/admin/tenants/tenant/%00/change/").status_code == 404
    assert browser.get(f"{filled.site}runs/run/?status__exact=%00").status_code == 200
    assert browser.get(f"{filled.site}runs/artifact/{'9' * 30}/download/").status_code == 404
    assert browser.get("/t/%00/admin/").status_code == 404
    assert browser.get("/t/a%00b/admin/runs/run/").status_code == 404
    assert browser.get(f"/t/{filled.tenant.id}%00/admin/").status_code == 404


def test_a_list_with_a_nul_in_its_address_is_the_list_without_that(browser: Client, filled: Filled) -> None:
    page = browser.get(f"{filled.site}runs/run/?status__exact=%00&q=%00").content.decode()
    assert str(filled.run.pk) in page


@pytest.mark.parametrize("page", pages(control_site))
def test_a_form_with_nuls_everywhere_is_refused_on_the_control_site(browser: Client, page: str) -> None:
    send_nuls(browser, f"/admin/{page}")


@pytest.mark.parametrize("page", pages(tenant_site))
def test_a_form_with_nuls_everywhere_is_refused_on_a_tenants_site(browser: Client, filled: Filled, page: str) -> None:
    send_nuls(browser, f"{filled.site}{page}")


def send_nuls(browser: Client, page: str) -> None:
    """Send the add form with a NUL in each field, and the list's forms with NULs as row ids and as the action."""
    response = browser.get(f"{page}add/")
    form = getattr(response.context.get("adminform"), "form", None) if response.context else None
    form = form or (response.context.get("form") if response.context else None)
    names = list(form.fields) if form is not None else []
    sent = browser.post(f"{page}add/", dict.fromkeys([*names, "nonsense"], "\x00"), follow=True)
    assert sent.status_code in (200, 400, 403), page
    rows = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save"}
    for key in ("id", "step", "pk", "model_name", "provider"):
        rows[f"form-0-{key}"] = "\x00"
    for extra in ({}, {"action": "\x00", "_selected_action": "\x00", "index": "0"}):
        sent = browser.post(page, {**rows, **extra}, follow=True)
        assert sent.status_code in (200, 400, 403), page


def test_every_pattern_of_the_sites_goes_through_one_gate() -> None:
    """Every URL with an argument calls it `object_id`, except those listed here, whose arguments are of other kinds."""
    for urlconf in ("config.urls", "config.urls_tenant"):
        with_ids = [route for route in routes(get_resolver(urlconf)) if "<" in route and "object_id" not in route]
        known = ("content_type_id", "app_label", "url>", "password/", "audit_export", "<uuid:", "<int:")
        assert [route for route in with_ids if not any(word in route for word in known)] == []


def routes(resolver: URLResolver, prefix: str = "") -> list[str]:
    found = []
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            found.append(route)
        else:
            found += routes(pattern, route)
    return found


@pytest.mark.parametrize("following", ["https://elsewhere.example/", "//elsewhere.example", "javascript:1", "\x00"])
def test_a_login_that_would_lead_to_another_site_ends_at_the_overview(following: str) -> None:
    from django.contrib.auth.models import User

    from tests.support.staff import make_user

    user = make_user(is_superuser=True)
    try:
        sent = Client().post(
            "/admin/login/", {"username": user.get_username(), "password": PASSWORD, "next": following}
        )
        assert (sent.status_code, sent.headers["Location"]) == (302, "/admin/")
    finally:
        User.objects.filter(pk=user.pk).delete()
