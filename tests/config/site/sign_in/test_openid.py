"""Sign-in through an OpenID provider: the whole flow, and what must be refused."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from config.site.sign_in.emergency import password_permit
from config.site.sign_in.models import LinkedIdentity, PasswordPermit
from tests.config.site.sign_in.logging_in import actions, alerts, code_of, enrol, is_logged_in, log_in
from tests.config.site.sign_in.provider_server import CLIENT_ID, CLIENT_SECRET, OTHER_KEY, OpenIDServer, running
from tests.support.staff import make_user

START, CALLBACK = "/admin/sign-in/openid/", "/admin/sign-in/openid/callback/"
NO_ACCESS = "Your account at Example cannot be used here. Ask an administrator."
INVALID = "The response from Example is not valid."
NOT_BEGUN = "The response does not belong to a login that is in progress in this browser."


@pytest.fixture(scope="module")
def server() -> Iterator[OpenIDServer]:
    with running() as found:
        yield found


@pytest.fixture
def provider(server: OpenIDServer, monkeypatch: pytest.MonkeyPatch) -> OpenIDServer:
    server.reset()
    for name, value in {
        "OIDC_ISSUER": server.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_NAME": "Example",
    }.items():
        monkeypatch.setattr(settings, name, value)
    return server


@pytest.fixture
def person(staff: User, provider: OpenIDServer) -> User:
    """A member of staff with a verified address, for whom the provider issues its tokens."""
    staff.email = f"{staff.username}@example.com"
    staff.save()
    provider.claims = {"sub": f"subject-{staff.pk}-{uuid4().hex}", "email": staff.email, "email_verified": True}
    return staff


def sign_in(provider: OpenIDServer, client: Client, start: str = START) -> Any:
    """Go to the provider and come back; return the response."""
    code, query = provider.authorize(client.get(start)["Location"])
    return client.get(CALLBACK, {"code": code, "state": query["state"]})


def link_on_page(client: Client) -> str:
    [link] = re.findall(rf'href="({START}\?link=[0-9a-f]+)"', client.get("/admin/account/").content.decode())
    return str(link)


def refusal(client: Client) -> str:
    """Return the refusal that the login page shows after a redirect to it; "" if it shows none."""
    response: Any = client.get("/admin/login/")
    return str(response.context["refusal"])


def test_a_person_logs_in_and_is_linked(provider: OpenIDServer, person: User) -> None:
    client = Client()
    assert "Log in with Example" in client.get("/admin/login/").content.decode()
    response = sign_in(provider, client, f"{START}?next=/admin/account/")
    assert (response.status_code, response["Location"]) == (302, "/admin/account/")
    assert is_logged_in(client)
    assert actions(person) == ["openid.link", "login.complete"]
    # From now on the subject counts, not the address.
    User.objects.filter(pk=person.pk).update(email="")
    provider.claims["email_verified"] = False
    assert sign_in(provider, Client())["Location"] == "/admin/"
    # The browser is sent nowhere else.
    response = sign_in(provider, Client(), f"{START}?next=https://evil.example/")
    assert response["Location"] == "/admin/"


def test_the_request_has_what_protects_it(provider: OpenIDServer) -> None:
    first, second = Client().get(START)["Location"], Client().get(START)["Location"]
    (_code, one), (_other, two) = provider.authorize(first), provider.authorize(second)
    assert one["code_challenge_method"] == "S256" and one["response_type"] == "code"
    for name in ("state", "nonce", "code_challenge"):
        assert len(one[name]) >= 43 and one[name] != two[name]


SPOILED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "signature": ({"key": OTHER_KEY}, {}, "signature"),
    "none": ({"algorithm": "none"}, {}, "algorithm"),
    "hmac": ({"algorithm": "HS256"}, {}, "algorithm"),
    "nonce": ({}, {"nonce": "another"}, "nonce"),
    "no nonce": ({}, {"nonce": None}, "nonce"),
    "audience": ({}, {"aud": "another"}, "audience"),
    "audiences": ({}, {"aud": [CLIENT_ID, "another"]}, "audience"),
    "party": ({}, {"azp": "another"}, "audience"),
    "issuer": ({}, {"iss": "https://elsewhere.example"}, "issuer"),
    "expired": ({}, {"exp": int(time.time()) - 3600}, "expired"),
    "early": ({}, {"iat": int(time.time()) + 3600}, "not yet valid"),
    "no expiry": ({}, {"exp": None}, "claim missing"),
    "no subject": ({}, {"sub": None}, "claim missing"),
}


def test_a_token_that_is_not_for_this_login_is_refused(provider: OpenIDServer, person: User) -> None:
    good = provider.claims
    for name, (attributes, claims, reason) in SPOILED.items():
        provider.reset()
        provider.claims = {**good, **claims}
        for attribute, value in attributes.items():
            setattr(provider, attribute, value)
        client = Client()
        assert sign_in(provider, client)["Location"] == "/admin/login/", name
        assert INVALID in refusal(client), name
        assert refusal(client) == "", "the sentence is shown once"
        assert not is_logged_in(client), name
        last = ControlAuditLog.objects.filter(action="login.fail").order_by("-sequence")[0]
        assert last.details == {"method": "openid", "reason": reason}, name
    assert not LinkedIdentity.objects.filter(user=person).exists()


def test_a_state_is_used_once_and_in_one_browser(provider: OpenIDServer, person: User) -> None:
    client, victim = Client(), Client()
    code, query = provider.authorize(client.get(START)["Location"])
    back = {"code": code, "state": query["state"]}
    victim.get(CALLBACK, back)
    assert NOT_BEGUN in refusal(victim) and not is_logged_in(victim)
    assert client.get(CALLBACK, back)["Location"] == "/admin/"
    client.post("/admin/logout/")
    provider.codes[code] = query
    client.get(CALLBACK, back)
    assert NOT_BEGUN in refusal(client)
    for wrong in ({}, {"state": "x"}, {"state": "\x00"}):
        client.get(CALLBACK, wrong)
        assert NOT_BEGUN in refusal(client)


def test_a_refusal_at_the_provider_and_a_broken_one_are_one_sentence(provider: OpenIDServer, person: User) -> None:
    client = Client()
    _code, query = provider.authorize(client.get(START)["Location"])
    client.get(CALLBACK, {"error": "access_denied", "state": query["state"]})
    assert refusal(client) == "Example did not confirm your account. Try again."
    _code, query = provider.authorize(client.get(START)["Location"])
    client.get(CALLBACK, {"code": "wrong", "state": query["state"]})
    assert "Example did not answer as expected." in refusal(client)
    for document in ({"issuer": "https://elsewhere.example"}, {"token_endpoint": "http://elsewhere.example/token"}):
        provider.document = document
        assert client.get(START)["Location"] == "/admin/login/"
        assert "Example did not answer as expected." in refusal(client)
    provider.document, provider.status = {}, 500
    assert client.get(START)["Location"] == "/admin/login/"
    _code, query = provider.authorize(_started(provider, client))
    client.get(CALLBACK, {"code": _code, "state": query["state"], "iss": "https://elsewhere.example"})
    assert "The response did not come from Example." in refusal(client)


def _started(provider: OpenIDServer, client: Client) -> str:
    provider.status = 200
    return str(client.get(START)["Location"])


def test_whose_account_it_is(provider: OpenIDServer, person: User, superuser: User) -> None:
    good = dict(provider.claims)
    superuser.email = "boss@example.com"
    superuser.save()
    cases: dict[str, dict[str, Any]] = {
        "email not verified": {"email_verified": False},
        "verified in words": {"email_verified": "true"},
        "unknown": {"email": "nobody@example.com"},
        "superuser by address": {"email": superuser.email},
        "superuser by name": {"email": superuser.username},
        "no address": {"email": None},
    }
    for name, claims in cases.items():
        provider.claims = {**good, **claims}
        client = Client()
        sign_in(provider, client)
        assert refusal(client) == NO_ACCESS, name
    assert not LinkedIdentity.objects.filter(user__in=[person, superuser]).exists()
    provider.claims = good
    sign_in(provider, Client())
    # The address of someone who left, given to someone else.
    provider.claims = {**good, "sub": "another subject"}
    client = Client()
    sign_in(provider, client)
    assert refusal(client) == NO_ACCESS
    provider.claims = good
    User.objects.filter(pk=person.pk).update(is_active=False)
    sign_in(provider, client)
    assert refusal(client) == NO_ACCESS


def test_a_superuser_links_their_account_themselves(provider: OpenIDServer, superuser: User, browser: Client) -> None:
    provider.claims = {"sub": f"boss-{uuid4().hex}"}
    assert Client().get(f"{START}?link")["Location"] == "/admin/login/"
    # Another site cannot send a browser to link an account: it does not know what the link on the page carries.
    for forged in ("", "1", "0" * 64):
        assert browser.get(f"{START}?link={forged}")["Location"] == "/admin/account/"
    link = link_on_page(browser)
    assert sign_in(provider, browser, link)["Location"] == "/admin/account/"
    provider.document = {"issuer": "https://elsewhere.example"}
    page = browser.get(link, follow=True).content.decode()
    assert "Example did not answer as expected." in page and "<h1" in page
    provider.document = {}
    assert "Linked to an account at" in browser.get("/admin/account/").content.decode()
    client = Client()
    assert sign_in(provider, client)["Location"] == "/admin/" and is_logged_in(client)
    assert "openid.link" in actions(superuser)
    # Once linked, neither again nor to another.
    page = browser.get(sign_in(provider, browser, link)["Location"]).content.decode()
    assert "is already linked to your account here." in page and NO_ACCESS not in page
    provider.claims = {"sub": "another"}
    page = browser.get(sign_in(provider, browser, link)["Location"]).content.decode()
    assert NO_ACCESS in page
    # Somebody else unlinks it: an open screen must not be enough to link another account.
    assert browser.post(f"/admin/sign-ins/{superuser.pk}/", {"unlink": "1"}).status_code == 403
    colleague = make_user(is_superuser=True)
    other = Client()
    other.force_login(colleague)
    other.post(f"/admin/sign-ins/{superuser.pk}/", {"unlink": "1"})
    colleague.delete()
    assert not LinkedIdentity.objects.filter(user=superuser).exists()


def test_new_people_get_an_account_without_rights_if_that_is_set(
    provider: OpenIDServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OIDC_NEW_USERS", "create")
    monkeypatch.setattr(settings, "OIDC_ALLOWED_DOMAINS", ["example.com"])
    name = f"new-{uuid4().hex[:8]}@example.com"
    claims = {"sub": uuid4().hex, "email": name, "email_verified": True}
    for spoiled in ({"email": name.replace("example.com", "example.org")}, {"email": f"a b {name}"}):
        provider.claims = {**claims, **spoiled}
        client = Client()
        sign_in(provider, client)
        assert refusal(client) == NO_ACCESS, spoiled
    provider.claims = claims
    client = Client()
    assert sign_in(provider, client)["Location"] == "/admin/"
    user = User.objects.get(username=name)
    assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (True, False, False)
    assert not user.get_all_permissions()
    assert actions(user) == ["user.create", "openid.link", "login.complete"]
    user.delete()


def test_the_second_factor_is_asked_for_after_the_provider(
    provider: OpenIDServer, person: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _codes = enrol(person)
    client = Client()
    assert sign_in(provider, client, f"{START}?next=/admin/account/")["Location"] == "/admin/sign-in/code/"
    assert not is_logged_in(client)
    response = client.post("/admin/sign-in/code/", {"code": code_of(secret)})
    assert response["Location"] == "/admin/account/"
    monkeypatch.setattr(settings, "SECOND_FACTOR", "required")
    monkeypatch.setattr(settings, "OIDC_SKIPS_SECOND_FACTOR", True)
    client = Client()
    assert sign_in(provider, client)["Location"] == "/admin/" and is_logged_in(client)


def test_without_passwords_only_a_permitted_superuser_uses_one(
    provider: OpenIDServer, staff: User, superuser: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PASSWORD_LOGIN", False)
    assert 'name="password"' not in Client().get("/admin/login/").content.decode()
    for user in (staff, superuser):
        assert "You cannot log in with a password." in alerts(log_in(Client(), user.username))[0]
    password_permit(username=superuser.username, minutes=5)
    assert 'name="password"' in Client().get("/admin/login/").content.decode()
    assert "You cannot log in with a password." in alerts(log_in(Client(), staff.username))[0]
    client = Client()
    assert log_in(client, superuser.username).status_code == 302
    PasswordPermit.objects.all().delete()
    assert is_logged_in(client)
    assert "login.permit" in actions(superuser)


def test_without_a_provider_there_are_no_such_pages() -> None:
    assert [Client().get(path).status_code for path in (START, CALLBACK)] == [404, 404]
