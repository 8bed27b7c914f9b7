"""The `staff` commands, and the checks of the sign-in settings."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from config.base.command import Refusal
from config.site.sign_in.checks import proxies_are_named, sign_in_settings
from config.site.sign_in.models import PasswordPermit, SecondFactor
from config.site.web_security import proxy_header
from tests.config.site.sign_in.logging_in import actions, enrol, entries


def run(name: str, *arguments: str) -> Any:
    out = StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_commands_do_and_audit(staff: User, superuser: User) -> None:
    enrol(staff)
    assert run("staff_reset_factor", "--username", staff.username) == {"username": staff.username, "reset": True}
    assert run("staff_reset_factor", "--username", staff.username)["reset"] is False
    assert not SecondFactor.objects.filter(user=staff).exists()
    assert actions(staff) == ["second_factor.enable", "second_factor.reset"]
    assert entries(staff)[-1].user_id.startswith("operator:")
    assert run("staff_unlock", "--all").keys() == {"unlocked"}
    permitted = run("staff_allow_password", "--username", superuser.username, "--minutes", "5")
    assert permitted["username"] == superuser.username
    PasswordPermit.objects.all().delete()


def test_the_commands_refuse(staff: User, superuser: User) -> None:
    for arguments, message in (
        (("staff_reset_factor", "--username", "no-one"), "There is no account 'no-one'."),
        (("staff_allow_password", "--username", staff.username), "is not an active superuser"),
        (
            ("staff_allow_password", "--username", superuser.username, "--minutes", "1441"),
            "for at least one minute and at most one day",
        ),
    ):
        with pytest.raises(Refusal, match=message):
            call_command(*arguments)


def test_contradictory_settings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    google = {"OIDC_ISSUER": "https://accounts.google.com", "OIDC_CLIENT_ID": "x"}
    cases: dict[str, dict[str, object]] = {
        "sign_in.E001": {"OIDC_ISSUER": "https://login.example.com"},
        "sign_in.E002": {"OIDC_ISSUER": "http://login.example.com", "OIDC_CLIENT_ID": "x"},
        "sign_in.E003": {**google, "OIDC_NEW_USERS": "create"},
        "sign_in.E004": {"PASSWORD_LOGIN": False},
        "sign_in.E005": {"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]},
        "sign_in.E006": {"LOGIN_ADDRESS_FAILURES_MAX": 4},
        "sign_in.E007": {"SESSION_IDLE_TIMEOUT_S": settings.SESSION_COOKIE_AGE + 1},
        "sign_in.E008": {"SESSION_IDLE_TIMEOUT_S": 60},
    }
    assert sign_in_settings() == [] == proxies_are_named()
    for expected, values in cases.items():
        with monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setattr(settings, name, value)
            assert [found.id for found in sign_in_settings()] == [expected]
    monkeypatch.setattr(settings, "SECURE_PROXY_SSL_HEADER", proxy_header("X-Forwarded-Proto"))
    assert [found.id for found in proxies_are_named()] == ["sign_in.W001"]
