"""Guessing passwords: limits by name and address, and by address; nothing locks a person out everywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone

from audit.control.models import ControlAuditLog
from config.site.sign_in.models import FailedLogins, SecondFactor
from config.site.sign_in.throttle import logins_unlock, name_digest
from tests.config.site.sign_in.logging_in import actions, alerts, enrol, entries, is_logged_in, log_in
from tests.support.staff import PASSWORD

LOCKED = "Too many failed attempts. Wait 15 minutes, then try again."


@pytest.fixture
def address() -> str:
    """An address that no other test uses."""
    number = uuid4().int
    return f"10.{number % 256}.{number // 256 % 256}.{number // 65536 % 256}"


def fail(username: str, address: str, times: int) -> None:
    for _time in range(times):
        assert "correct" in alerts(log_in(Client(), username, "wrong", address=address))[0]


def test_a_name_is_locked_at_one_address_and_open_at_others(staff: User, address: str) -> None:
    fail(staff.username, address, 5)
    refused = log_in(Client(), staff.username, address=address)
    assert (refused.status_code, alerts(refused)) == (200, [LOCKED])
    client = Client()
    assert log_in(client, staff.username, address="192.0.2.77").status_code == 302
    assert is_logged_in(client)
    assert actions(staff) == ["login.fail"] * 5 + ["login.lock", "login.complete"]
    # A name without an account looks the same.
    fail("no-such-person", address, 5)
    assert alerts(log_in(Client(), "no-such-person", address=address)) == [LOCKED]


def test_the_lock_ends_and_a_success_forgets_failures(staff: User, address: str) -> None:
    fail(staff.username, address, 4)
    assert log_in(Client(), staff.username, address=address).status_code == 302
    fail(staff.username, address, 5)
    assert alerts(log_in(Client(), staff.username, address=address)) == [LOCKED]
    past = timezone.now() - timedelta(seconds=1)
    FailedLogins.objects.filter(address=address).update(locked_until=past)
    assert log_in(Client(), staff.username, address=address).status_code == 302


def test_an_address_is_locked_for_every_name(staff: User, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOGIN_ADDRESS_FAILURES_MAX", 6)
    for number in range(6):
        fail(f"guess-{number}", address, 1)
    assert alerts(log_in(Client(), staff.username, address=address)) == [LOCKED]
    [lock] = [entry for entry in entries(resource_id=address) if entry.action == "login.lock"]
    assert lock.details == {"failures": 6}


def test_attempts_in_parallel_cannot_exceed_the_limit(staff: User, address: str) -> None:
    def attempt(_number: int) -> bool:
        try:
            # Not from `response.context`, which other threads' pages are added to.
            return LOCKED in log_in(Client(), staff.username, "wrong", address=address).content.decode()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(attempt, range(24)))
    assert refused.count(True) == 24 - settings.LOGIN_FAILURES_MAX
    assert sorted(actions(staff)) == ["login.fail"] * 5 + ["login.lock"]


def test_what_was_typed_is_stored_nowhere(address: str) -> None:
    typed = f"secret-{uuid4().hex}"
    fail(typed, address, 1)
    [entry] = ControlAuditLog.objects.filter(details__address=address)
    assert (entry.action, entry.resource_id, entry.user_id) == ("login.fail", "unknown", "system")
    assert typed not in str(entry.details)
    digests = {row.name_digest for row in FailedLogins.objects.filter(address=address)}
    assert digests == {"", name_digest(typed)}
    assert typed not in str(digests)


def test_ipv6_is_counted_by_network(staff: User) -> None:
    network = f"2001:db8:{uuid4().int % 65536:x}:1"
    for number in range(5):
        fail(staff.username, f"{network}::{number + 1:x}", 1)
    assert alerts(log_in(Client(), staff.username, address=f"{network}::99")) == [LOCKED]


def test_unlocking_by_name_by_address_and_for_all(staff: User, address: str) -> None:
    def is_locked() -> bool:
        return alerts(log_in(Client(), staff.username, "wrong", address=address)) == [LOCKED]

    for how in ({"username": staff.username}, {"address": address}, {}):
        fail(staff.username, address, 5)
        assert is_locked()
        assert logins_unlock(**how) >= 1
        assert not is_locked()
        logins_unlock(address=address)


def test_an_ipv6_address_is_unlocked_with_its_network(staff: User) -> None:
    network = f"2001:db8:{uuid4().int % 65536:x}:2"
    fail(staff.username, f"{network}::1", 5)
    assert logins_unlock(address=f"{network}::7") >= 1
    assert alerts(log_in(Client(), staff.username, "wrong", address=f"{network}::1")) != [LOCKED]


def test_a_person_who_is_not_staff_is_refused_like_a_wrong_password(staff: User, address: str) -> None:
    User.objects.filter(pk=staff.pk).update(is_staff=False)
    assert "correct" in alerts(log_in(Client(), staff.username, address=address))[0]


def test_an_open_screen_is_no_place_to_guess_the_password(staff: User, address: str) -> None:
    """Wrong old passwords count as failed logins do; the right one resets the count."""
    client = Client(REMOTE_ADDR=address)
    client.force_login(staff)

    def change(old: str) -> str:
        given = {"old_password": old, "new_password1": "a newer password 77", "new_password2": "no match"}
        return str(client.post("/admin/password_change/", given, follow=True).content.decode())

    for _time in range(4):
        change("wrong")
    assert LOCKED not in change(PASSWORD)
    for _time in range(5):
        assert LOCKED not in change("wrong")
    assert LOCKED in change(PASSWORD)
    assert actions(staff) == ["login.complete"] + ["login.fail"] * 9 + ["login.lock"]
    assert alerts(log_in(Client(), staff.username, address=address)) == [LOCKED]


def test_turning_off_the_second_factor_is_no_place_to_guess_it_either(staff: User, address: str) -> None:
    _secret, codes = enrol(staff)
    client = Client(REMOTE_ADDR=address)
    client.force_login(staff)

    def turn_off(password: str, code: str) -> str:
        given = {"password": password, "code": code}
        return str(client.post("/admin/account/second-factor/off/", given, follow=True).content.decode())

    for _time in range(5):
        assert LOCKED not in turn_off("wrong", "000000")
    assert LOCKED in turn_off(PASSWORD, codes[0])
    assert SecondFactor.objects.filter(user=staff).exists()
    assert actions(staff)[-6:] == ["login.fail"] * 5 + ["login.lock"]
