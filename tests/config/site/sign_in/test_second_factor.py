"""The second factor: what is closed before it, that a code works once, and who may remove the factor."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from config.site.sign_in.models import RecoveryCode, SecondFactor
from config.site.sign_in.pending import KEY, LASTS_S
from config.site.sign_in.second_factor import CodeRefused, factor_verify
from tests.config.site.sign_in.logging_in import actions, alerts, code_of, enrol, entries, is_logged_in, log_in
from tests.config.site.test_pages import CONTROL_PAGES, TENANT_PAGES
from tests.support.staff import PASSWORD, Filled, make_user

CODE, ENROL, ACCOUNT = "/admin/sign-in/code/", "/admin/sign-in/set-up/", "/admin/account/"
OFF, NEW_CODES = "/admin/account/second-factor/off/", "/admin/account/second-factor/codes/"
WRONG = (
    "This code is wrong or was used already. Wait for the next code of the app, or use a recovery code that you have"
    " not used yet."
)
WRONG_FOR_NEW = "This code is wrong. Enter the code that the app shows now."
# What a visitor may open; everything else sends them to the login.
OPEN = {
    "/admin/login/",
    CODE,
    ENROL,
    "/admin/sign-in/openid/",
    "/admin/sign-in/openid/callback/",
    "/admin/jsi18n/",
    "/favicon.ico",
    "/language/",
}


def half_logged_in(user: User, **more: str) -> Client:
    client = Client()
    response = log_in(client, user.username, **more)
    assert (response.status_code, response["Location"]) == (302, CODE)
    return client


def enter(client: Client, code: str, path: str = CODE) -> Any:
    return client.post(path, {"code": code})


def test_a_login_takes_password_and_code(staff: User) -> None:
    secret, _codes = enrol(staff)
    client = half_logged_in(staff, next="/admin/account/")
    page = client.get(CODE).content.decode()
    assert 'autocomplete="one-time-code"' in page and 'inputmode="numeric"' in page
    assert alerts(enter(client, "12 34")) == [WRONG]
    response = enter(client, f"{code_of(secret)[:3]} {code_of(secret)[3:]}")
    assert (response.status_code, response["Location"]) == (302, "/admin/account/")
    assert is_logged_in(client)
    assert actions(staff) == ["second_factor.enable", "second_factor.fail", "login.complete"]


def test_before_the_code_nothing_can_be_reached_on_either_site(superuser: User, filled: Filled) -> None:
    enrol(superuser)
    client = half_logged_in(superuser)
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    pages = [*CONTROL_PAGES, *(filled.site + page.format(**ids) for page in TENANT_PAGES), *addresses()]
    assert len(pages) > 150
    for page in pages:
        if page.partition("?")[0] in OPEN:
            continue
        for method in (client.get, client.post):
            response = method(page)
            assert response.status_code == 302, page
            assert "/admin/login/" in response["Location"] or response["Location"] == "/admin/", (page, response)
    assert ACCOUNT in addresses()


def addresses() -> list[str]:
    """Return an address for each pattern of the control site, except regular expressions with groups."""
    return [re.sub(r"<[^>]+>", "1", path) for path in _paths(get_resolver("config.urls"), "/")]


def _paths(resolver: URLResolver, prefix: str) -> list[str]:
    found = []
    for pattern in resolver.url_patterns:
        path = prefix + _plain(str(pattern.pattern))
        found += _paths(pattern, path) if isinstance(pattern, URLResolver) else [path]
        assert isinstance(pattern, URLPattern | URLResolver)
    return [path for path in found if "(?P" not in path]


def _plain(pattern: str) -> str:
    return pattern.removeprefix("^").removesuffix("$").removesuffix("\\Z")


def test_a_code_is_accepted_once_and_neighbours_for_slow_clocks(staff: User) -> None:
    secret, _codes = enrol(staff)
    now = code_of(secret)
    factor_verify(user=staff, code=now)
    for again in (now, code_of(secret, steps=-1), code_of(secret, steps=3), code_of(secret, steps=-3)):
        with pytest.raises(CodeRefused, match="wrong or was used already"):
            factor_verify(user=staff, code=again)
    # A clock that is early by one step; afterwards the current step is too old.
    factor_verify(user=staff, code=code_of(secret, steps=1))


def test_of_parallel_tries_with_one_code_one_succeeds(staff: User) -> None:
    secret, codes = enrol(staff)

    def attempt(code: str) -> bool:
        try:
            factor_verify(user=staff, code=code)
        except CodeRefused:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, [code_of(secret)] * 4)) == 1
        assert sum(pool.map(attempt, [codes[0]] * 4)) == 1


def test_guessing_codes_is_locked_whatever_comes_next(staff: User) -> None:
    secret, codes = enrol(staff)
    client = half_logged_in(staff)
    for _time in range(settings.LOGIN_FAILURES_MAX):
        assert alerts(enter(client, "000000")) == [WRONG]
    for code in (code_of(secret), codes[0]):
        minutes = settings.LOGIN_LOCK_S // 60
        told = f"Too many wrong codes were entered. Wait {minutes} minutes, then try again."
        assert alerts(enter(client, code)) == [told]
    assert actions(staff)[-1] == "second_factor.lock"
    SecondFactor.objects.filter(user=staff).update(locked_until=timezone.now() - timedelta(seconds=1))
    assert enter(client, code_of(secret)).status_code == 302


def test_a_recovery_code_replaces_the_app_once(staff: User) -> None:
    _secret, codes = enrol(staff)
    assert len(codes) == len(set(codes)) == 10
    client = half_logged_in(staff)
    assert "inputmode" not in client.get(f"{CODE}?recovery=1").content.decode()
    assert enter(client, codes[3].upper().replace("-", " "), f"{CODE}?recovery=1").status_code == 302
    assert is_logged_in(client)
    assert "second_factor.recover" in actions(staff)
    assert alerts(enter(half_logged_in(staff), codes[3], f"{CODE}?recovery=1")) == [WRONG]
    assert "Recovery codes left: 9" in client.get(ACCOUNT).content.decode()


def test_secrets_and_codes_are_not_in_the_database_in_clear(staff: User) -> None:
    client = Client()
    log_in(client, staff.username)
    shown = client.get(ENROL)
    secret = shown.context["secret"].replace(" ", "")
    response: Any = enter(client, code_of(secret), ENROL)
    codes = response.context["codes"]
    assert len(codes) == 10 and response["Cache-Control"].count("no-store")
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM second_factors WHERE user_id = %s", [staff.pk])
        [stored] = cursor.fetchone()
    assert stored.startswith("fernet:") and secret not in stored
    assert {len(row.digest) for row in RecoveryCode.objects.filter(factor__user=staff)} == {64}
    for session in Session.objects.all():
        assert secret not in str(session.get_decoded())


def test_setting_up_shows_a_code_and_ends_other_sessions(staff: User) -> None:
    mine, other = Client(), Client()
    for client in (mine, other):
        log_in(client, staff.username)
    page = mine.get(ENROL)
    html = page.content.decode()
    assert "<svg" in html and "QR code" in html
    assert page.context["secret"] == mine.get(ENROL).context["secret"], "a reload keeps the secret"
    assert alerts(enter(mine, "000000", ENROL)) == [WRONG_FOR_NEW]
    enter(mine, code_of(page.context["secret"].replace(" ", "")), ENROL)
    assert (is_logged_in(mine), is_logged_in(other)) == (True, False)
    # Once set up, the page offers no other secret.
    assert mine.get(ENROL)["Location"] == ACCOUNT


def test_turning_it_off_takes_password_and_code(staff: User) -> None:
    secret, codes = enrol(staff)
    client = half_logged_in(staff)
    enter(client, codes[0])
    for password, code in (("wrong", code_of(secret)), (PASSWORD, "000000"), (PASSWORD, "")):
        assert client.post(OFF, {"password": password, "code": code}).status_code == 200
    assert SecondFactor.objects.filter(user=staff).exists()
    assert client.post(OFF, {"password": PASSWORD, "code": code_of(secret)}).status_code == 302
    assert not SecondFactor.objects.filter(user=staff).exists()
    assert is_logged_in(client)
    assert log_in(Client(), staff.username)["Location"] == "/admin/"


def test_new_recovery_codes_take_a_code_and_void_the_old_ones(staff: User) -> None:
    secret, codes = enrol(staff)
    client = half_logged_in(staff)
    enter(client, codes[0])
    assert alerts(client.post(NEW_CODES, {"code": "000000"})) == [WRONG]
    response: Any = client.post(NEW_CODES, {"code": code_of(secret)})
    new = response.context["codes"]
    assert not set(new) & set(codes)
    with pytest.raises(CodeRefused):
        factor_verify(user=staff, code=codes[1])
    factor_verify(user=staff, code=new[1])


@pytest.mark.parametrize("page", [OFF, NEW_CODES])
def test_without_one_there_is_none_to_turn_off_or_renew(staff: User, page: str) -> None:
    client = Client()
    client.force_login(staff)
    for method in (client.get, client.post):
        response = method(page, follow=True)
        assert response.redirect_chain == [(ACCOUNT, 302)]
        assert "Your account has no second factor." in response.content.decode()


def test_where_it_is_required_a_login_sets_it_up_first(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Client()
    log_in(before, staff.username)
    monkeypatch.setattr(settings, "SECOND_FACTOR", "required")
    assert not is_logged_in(before), "a session from before the setting"
    client = Client()
    assert log_in(client, staff.username, next="/admin/account/")["Location"] == ENROL
    assert not is_logged_in(client)
    page: Any = client.get(ENROL)
    secret = page.context["secret"].replace(" ", "")
    assert page.context["is_required"]
    response: Any = enter(client, code_of(secret, steps=-1), ENROL)
    assert response.context["next_url"] == "/admin/account/"
    assert is_logged_in(client)
    # Turning it off logs out everywhere, and the next login asks for a new one.
    client.post(OFF, {"password": PASSWORD, "code": code_of(secret)})
    assert not is_logged_in(client)
    assert log_in(Client(), staff.username)["Location"] == ENROL


def test_where_it_is_off_no_one_is_asked(staff: User, monkeypatch: pytest.MonkeyPatch) -> None:
    enrol(staff)
    monkeypatch.setattr(settings, "SECOND_FACTOR", "off")
    client = Client()
    assert log_in(client, staff.username)["Location"] == "/admin/"
    assert client.get(ENROL)["Location"] == "/admin/login/"


def test_an_administrator_resets_it_and_ends_the_sessions(staff: User, superuser: User, browser: Client) -> None:
    _secret, codes = enrol(staff)
    client = half_logged_in(staff)
    enter(client, codes[0])
    assert browser.post(f"/admin/sign-ins/{staff.pk}/", {"reset": "1"}).status_code == 302
    assert not SecondFactor.objects.filter(user=staff).exists()
    assert not is_logged_in(client)
    [entry] = [entry for entry in entries(staff) if entry.action == "second_factor.reset"]
    assert entry.user_id == f"staff:{superuser.username}"


def test_the_half_login_ends_with_time_and_with_a_changed_account(staff: User) -> None:
    secret, _codes = enrol(staff)
    late = half_logged_in(staff)
    session = late.session
    session[KEY] = {**session[KEY], "begun_at": session[KEY]["begun_at"] - LASTS_S}
    session.save()
    assert enter(late, code_of(secret))["Location"] == "/admin/login/"
    changed = half_logged_in(staff)
    staff.set_password("another long password 2")
    staff.save()
    assert enter(changed, code_of(secret))["Location"] == "/admin/login/"
    staff.set_password(PASSWORD)
    staff.save()
    inactive = half_logged_in(staff)
    User.objects.filter(pk=staff.pk).update(is_active=False)
    assert enter(inactive, code_of(secret))["Location"] == "/admin/login/"


def test_one_persons_code_is_no_one_elses(staff: User) -> None:
    other = make_user(is_superuser=False)
    secret, codes = enrol(other)
    enrol(staff)
    client = half_logged_in(staff)
    for code in (code_of(secret), codes[0]):
        assert alerts(enter(client, code)) == [WRONG]
    other.delete()
