"""Sessions: listed and ended by owners and administrators; ended by changes to the account, age and idleness."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from config.site.sign_in.models import StaffSession
from config.site.sign_in.sessions import SESSION_ID, session_counts
from tests.config.site.sign_in.logging_in import actions, entries, is_logged_in, log_in
from tests.support.staff import PASSWORD, give_role, make_user

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
ACCOUNT = "/admin/account/"


def logged_in(user: User, **headers: str) -> Client:
    client = Client(headers=headers)
    assert log_in(client, user.username).status_code == 302
    return client


def row_of(client: Client) -> StaffSession:
    return StaffSession.objects.get(pk=client.session[SESSION_ID])


def reason_of(client: Client) -> str:
    """Return what the login page says to a browser whose session ended."""
    response: Any = client.get("/admin/login/")
    return str(response.context["notice"])


def test_a_person_sees_and_ends_their_own_sessions(staff: User, superuser: User) -> None:
    mine, other, third = logged_in(staff, user_agent=CHROME), logged_in(staff), logged_in(staff)
    foreign = logged_in(superuser)
    html = mine.get(ACCOUNT).content.decode()
    assert "Chrome on Windows" in html and "192.0.2.1" in html
    assert html.count("this session") == 1 and html.count('name="end"') == 2
    assert str(row_of(mine).pk) not in html and str(row_of(foreign).pk) not in html
    assert mine.post(ACCOUNT, {"end": row_of(other).pk}).status_code == 302
    assert (is_logged_in(other), is_logged_in(third)) == (False, True)
    assert reason_of(other) == "Your session was ended. Log in again."
    # Neither another person's session, nor one's own by mistake.
    for row in (row_of(foreign), row_of(mine)):
        mine.post(ACCOUNT, {"end": row.pk})
    assert is_logged_in(foreign) and is_logged_in(mine)
    mine.post(ACCOUNT, {"end_others": "1"})
    assert (is_logged_in(third), is_logged_in(mine)) == (False, True)
    assert mine.post(ACCOUNT, {"end": "no uuid"}).status_code == 404
    assert [entry.details and entry.details["reason"] for entry in entries(staff) if entry.action == "session.end"] == [
        "owner",
        "owner",
    ]


def test_logging_out_ends_the_session_for_a_copied_cookie_too(staff: User) -> None:
    client = logged_in(staff)
    thief = Client()
    thief.cookies = client.cookies.copy()  # type: ignore[assignment]
    assert is_logged_in(thief)
    client.post("/admin/logout/")
    assert not is_logged_in(thief) and not is_logged_in(client)
    assert actions(staff) == ["login.complete", "session.close"]
    [login, _logout] = entries(staff)
    assert login.user_id == f"staff:{staff.username}"
    assert login.details and (login.details["method"], login.details["second_factor"]) == ("password", False)


def test_a_session_that_someone_adds_to_the_browsers_data_is_refused(staff: User, superuser: User) -> None:
    client, foreign = logged_in(staff), logged_in(superuser)
    session = client.session
    session[SESSION_ID] = str(row_of(foreign).pk)
    session.save()
    assert not is_logged_in(client)


@pytest.mark.parametrize(
    ("column", "age", "says"),
    [
        ("seen_at", timedelta(hours=2, seconds=1), "were inactive for a while"),
        ("opened_at", timedelta(hours=12, seconds=1), "maximum age"),
    ],
)
def test_a_session_ends_by_idleness_and_by_age(staff: User, column: str, age: timedelta, says: str) -> None:
    client = logged_in(staff)
    StaffSession.objects.filter(pk=row_of(client).pk).update(**{column: timezone.now() - age})
    other = logged_in(staff)
    assert other.get(ACCOUNT).content.decode().count('name="end"') == 0
    assert session_counts()[staff.pk] == 1
    assert client.get("/t/no-such-tenant/admin/").status_code == 302
    assert says in reason_of(client)
    ended = StaffSession.objects.get(user=staff, ended_at__isnull=False)
    assert ended.end_reason in ("idle", "age")


def test_seen_is_written_once_a_minute(staff: User) -> None:
    client = logged_in(staff)
    before = row_of(client).seen_at
    assert is_logged_in(client)
    assert row_of(client).seen_at == before
    StaffSession.objects.filter(pk=row_of(client).pk).update(seen_at=before - timedelta(seconds=61))
    assert client.get(ACCOUNT, REMOTE_ADDR="192.0.2.9").status_code == 200
    assert row_of(client).seen_at > before
    assert row_of(client).address == "192.0.2.9"


def test_changing_ones_own_password_ends_the_other_sessions(staff: User) -> None:
    mine, other = logged_in(staff), logged_in(staff)
    new = "another long password 2"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert mine.post("/admin/password_change/", form).status_code == 302
    assert (is_logged_in(mine), is_logged_in(other)) == (True, False)
    assert reason_of(other) == "You were logged out because your password was changed."
    assert StaffSession.objects.filter(user=staff, ended_at=None).count() == 1


def test_deactivation_and_lost_rights_end_sessions(staff: User) -> None:
    _save(staff, is_superuser=True)
    losses: list[tuple[Callable[[], None], str]] = [
        (lambda: _save(staff, is_superuser=False), "your rights were changed."),
        (lambda: _save(staff, is_active=False), "your account was deactivated."),
    ]
    for lose, reason in losses:
        client = logged_in(staff)
        assert is_logged_in(client)
        lose()
        assert not is_logged_in(client)
        assert reason_of(client) == f"You were logged out because {reason}"
    _save(staff, is_active=True)
    client = logged_in(staff)
    staff.first_name = "Ann"
    staff.save()
    assert is_logged_in(client)


def _save(user: User, **values: object) -> None:
    for name, value in values.items():
        setattr(user, name, value)
    user.save()


def test_administrators_end_others_sessions_if_they_may(staff: User, superuser: User) -> None:
    manager = make_user(is_superuser=False)
    give_role(manager, "administrator")
    boss, client, top = logged_in(manager), logged_in(staff), logged_in(superuser)
    page = f"/admin/sign-ins/{staff.pk}/"
    listed = boss.get("/admin/sign-ins/").content.decode()
    assert staff.username in listed and page in listed
    assert boss.post(page, {"end": row_of(client).pk}).status_code == 302
    assert not is_logged_in(client)
    # A superuser is out of reach, though visible.
    assert boss.get(f"/admin/sign-ins/{superuser.pk}/").status_code == 200
    for verb in ("end_others", "reset", "unlink", "unlock"):
        assert boss.post(f"/admin/sign-ins/{superuser.pk}/", {verb: "1"}).status_code == 403
    assert is_logged_in(top)
    for path in ("/admin/sign-ins/", page):
        assert logged_in(staff).get(path).status_code == 403
    manager.delete()


def test_a_session_from_before_this_table_is_asked_to_log_in_again(staff: User) -> None:
    client = logged_in(staff)
    session = client.session
    del session[SESSION_ID]
    session.save()
    assert not is_logged_in(client)
    assert settings.SESSION_COOKIE_AGE == 12 * 60 * 60
