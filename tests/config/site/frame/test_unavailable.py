"""Both sites say so if the control database is unavailable, and work again once it is back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from config.stack.process import free_port

if TYPE_CHECKING:
    from tests.support.staff import Filled

SENTENCE = (
    "The database is unavailable or too busy right now. Try again in a minute; if you were changing something, check"
    " first whether it was saved."
)


@contextmanager
def control_database_away() -> Iterator[None]:
    """Make the control database unreachable: connect to a port on which nothing listens."""
    connection.close()
    before = connection.settings_dict["PORT"]
    connection.settings_dict["PORT"] = free_port()
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = before


@pytest.mark.parametrize("language", ["en", "ja"])
def test_both_sites_say_so_and_recover_afterwards(superuser: User, filled: Filled, language: str) -> None:
    client = Client(raise_request_exception=False, headers={"accept-language": language})
    client.force_login(superuser)
    for address in ("/admin/", filled.site, f"{filled.site}runs/run/"):
        with control_database_away():
            answer = client.get(address)
        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        text = answer.content.decode()
        assert (SENTENCE in text) == (language == "en") and f'<html lang="{language}">' in text
        assert "Traceback" not in text and "127.0.0.1" not in text
        assert client.get(address).status_code == 200


def test_a_bug_is_still_a_server_error(superuser: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(superuser)

    def broken(*_arguments: object, **_keywords: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", broken)
    assert client.get("/admin/").status_code == 500
