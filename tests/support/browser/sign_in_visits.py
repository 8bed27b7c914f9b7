"""Visits to the pages that people see while they sign in or after they are logged out: each ends on one page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.support.browser.pages import Known

if TYPE_CHECKING:
    from tests.support.browser.chromium import Browser


def login_page(browser: Browser, known: Known) -> None:
    _log_out(browser)
    browser.open("/admin/login/")


def login_refused(browser: Browser, known: Known) -> None:
    login_page(browser, known)
    browser.fill(username="nobody", password="not the password")
    browser.send()


def second_factor(browser: Browser, known: Known) -> None:
    _half_way(browser, known.ids["operator"])
    browser.open("/admin/sign-in/code/")


def second_factor_refused(browser: Browser, known: Known) -> None:
    second_factor(browser, known)
    browser.fill(code="000000")
    browser.send()


def recovery_code(browser: Browser, known: Known) -> None:
    _half_way(browser, known.ids["operator"])
    browser.open("/admin/sign-in/code/?recovery")


def enrolment_required(browser: Browser, known: Known) -> None:
    _half_way(browser, known.ids["colleague"])
    browser.open("/admin/sign-in/set-up/")


def enrolment_refused(browser: Browser, known: Known) -> None:
    browser.open("/admin/sign-in/set-up/")
    browser.fill(code="000000")
    browser.send()


def login_locked(browser: Browser, known: Known) -> None:
    """Try to log in with a name that is locked for this browser's address."""
    from django.utils import timezone

    from config.site.sign_in.models import FailedLogins
    from config.site.sign_in.throttle import name_digest

    name, now = f"locked-{uuid4().hex[:8]}", timezone.now()
    lock = FailedLogins.objects.create(
        name_digest=name_digest(name),
        address="127.0.0.1",
        failures=9,
        since=now,
        locked_until=now + timedelta(minutes=5),
    )
    login_page(browser, known)
    browser.fill(username=name, password="not the password")
    browser.send()
    lock.delete()


def recovery_codes(browser: Browser, known: Known) -> None:
    codes = _enrolled(browser, known)
    browser.open("/admin/account/second-factor/codes/")
    browser.fill(code=codes[0])
    browser.send()


def second_factor_off(browser: Browser, known: Known) -> None:
    _enrolled(browser, known)
    browser.open("/admin/account/second-factor/off/")


def _enrolled(browser: Browser, known: Known) -> list[str]:
    """Give the operator a new second factor, and log in as them; return their recovery codes."""
    from django.contrib.auth.models import User

    from config.site.sign_in.models import SecondFactor
    from tests.config.site.sign_in.logging_in import enrol

    operator = User.objects.get(pk=known.ids["operator"])
    # Its recovery codes are known only when it is new.
    SecondFactor.objects.filter(user=operator).delete()
    _secret, codes = enrol(operator)
    log_in(browser, known.ids["operator"])
    return codes


def logged_out(browser: Browser, known: Known) -> None:
    log_in(browser, known.ids["operator"])
    browser.open("/admin/")
    browser.send("#logout-form")


def session_ended(browser: Browser, known: Known) -> None:
    """Ask for a page after a change of the person's rights has ended the session."""
    from config.site.sign_in.sessions import EndReason, sessions_end_of

    log_in(browser, known.ids["operator"])
    browser.open("/admin/")
    sessions_end_of(int(known.ids["operator"]), reason=EndReason.RIGHTS)
    browser.open("/admin/")


SIGN_IN_VISITS = (
    *(login_page, login_refused, login_locked, second_factor, second_factor_refused, recovery_code, recovery_codes),
    second_factor_off,
    *(enrolment_required, enrolment_refused, logged_out, session_ended),
)


def log_in(browser: Browser, user_id: str) -> None:
    """Give the browser a session of the user."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(pk=user_id))
    browser.set_cookie(settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)


def _log_out(browser: Browser) -> None:
    from django.conf import settings

    browser.remove_cookie(settings.SESSION_COOKIE_NAME)


def _half_way(browser: Browser, user_id: str) -> None:
    """Give the browser the session of a user whose password was accepted, but whose login is not complete."""
    import time
    from dataclasses import asdict

    from django.conf import settings
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    from config.site.sign_in.pending import KEY, Pending

    user = User.objects.get(pk=user_id)
    session = SessionStore()
    session[KEY] = asdict(Pending(user.pk, user.get_session_auth_hash(), "password", time.time(), "/admin/"))
    session.save()
    browser.set_cookie(settings.SESSION_COOKIE_NAME, str(session.session_key))
