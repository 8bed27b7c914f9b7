"""What every response tells browsers to refuse, and the settings behind a proxy that terminates TLS."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from config import logs
from config.site.web_security import on_loopback_alone, proxy_header
from config.stack.paths import CHECKOUT, find_home
from config.stack.state import generate_secrets
from config.stack.workers import Web
from tests.support import preloaded
from tests.support.staff import Filled, browser, filled, superuser

__all__ = ["browser", "filled", "superuser"]

# As docs/configuration.md says, "Behind a proxy".
BEHIND_A_PROXY = {
    "ALLOWED_HOSTS": "admin.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://admin.example.com",
    "SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto",
    "TRUSTED_PROXIES": "127.0.0.1",
    "SECURE_SSL_REDIRECT": "true",
    "SECURE_HSTS_SECONDS": "31536000",
}
SHOWN = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SESSION_COOKIE_AGE", "SECURE_PROXY_SSL_HEADER")


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def setting(name: str, **environment: str) -> str:
    code = f"from django.conf import settings; print(settings.{name})"
    result = preloaded.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return str(result.stdout).strip()


def policy(response: Any) -> dict[str, list[str]]:
    directives = [directive.split() for directive in response["Content-Security-Policy"].split(";")]
    return {name: sources for name, *sources in directives}


# -- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ("/admin/login/", 200),
        ("/", 302),
        ("/admin/", 302),
        ("/t/nobody/admin/", 302),
        ("/no/such/page", 404),
        ("/static/config/admin.css", 200),
        ("/static/unfold/js/alpine/alpine.js", 200),
    ],
)
def test_every_response_has_the_policy_and_is_what_it_says(page: str, status: int) -> None:
    response = Client().get(page)
    assert response.status_code == status
    assert response["X-Content-Type-Options"] == "nosniff"
    found = policy(response)
    assert found["script-src"] == ["'self'", "'unsafe-eval'"]
    assert (found["default-src"], found["frame-ancestors"], found["base-uri"]) == (["'none'"],) * 3
    response.close()


def test_a_download_has_them_too(browser: Client, filled: Filled) -> None:
    response: Any = browser.get(f"{filled.site}runs/artifact/{filled.artifact.pk}/download/")
    assert response["X-Content-Type-Options"] == "nosniff" and policy(response)["default-src"] == ["'none'"]
    assert response["Content-Disposition"].startswith("attachment")
    response.close()


def test_https_is_demanded_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 3600,
        "SECURE_PROXY_SSL_HEADER": proxy_header("X-Forwarded-Proto"),
    }.items():
        monkeypatch.setattr(settings, name, value)
    client = Client()
    response = client.get("/admin/login/")
    assert (response.status_code, response["Location"]) == (301, "https://testserver/admin/login/")
    response = client.get("/admin/login/", headers={"x-forwarded-proto": "https"})
    assert response.status_code == 200
    assert response["Strict-Transport-Security"].startswith("max-age=3600")


def test_the_stack_knows_a_web_server_that_redirects_to_https_as_ready(tmp_path: Path) -> None:
    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Location", f"https://127.0.0.1:{self.server.server_port}/")  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    home, secrets = find_home(tmp_path), generate_secrets()
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert Web().ready(home, secrets, server.server_port)
        thread.join()
        port = server.server_port
    assert not Web().ready(home, secrets, port)


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "alone"),
    [
        (["localhost", "127.0.0.1", "[::1]"], True),
        (["demo.localhost", " 127.0.0.2 "], True),
        (["localhost", "admin.example.com"], False),
        (["*"], False),
        ([".localhost.example.com"], False),
        (["10.0.0.1"], False),
        (["127.0.0.1.example.com"], False),
    ],
)
def test_the_machine_is_known_to_be_alone_by_its_names(hosts: list[str], alone: bool) -> None:
    assert on_loopback_alone(hosts) is alone


def test_a_proxys_header_is_named_as_the_proxy_sends_it() -> None:
    assert proxy_header("X-Forwarded-Proto") == ("HTTP_X_FORWARDED_PROTO", "https")
    assert proxy_header("") is None


def test_cookies_are_for_https_alone_unless_nothing_crosses_a_network() -> None:
    assert setting("SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE") == "False False"
    public = {"ALLOWED_HOSTS": "localhost,admin.example.com"}
    assert setting("SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE", **public) == "True True"
    assert setting("SESSION_COOKIE_SECURE", **public, SESSION_COOKIE_SECURE="false") == "False"


def test_a_session_lasts_a_working_day_unless_told_otherwise() -> None:
    assert setting("SESSION_COOKIE_AGE") == "43200"
    assert setting("SESSION_COOKIE_AGE", SESSION_COOKIE_AGE_S="600") == "600"


def test_the_deployment_check_has_nothing_to_say_behind_a_proxy() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **BEHIND_A_PROXY)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout
    manual = (CHECKOUT / "docs/configuration.md").read_text()
    assert [name for name, value in BEHIND_A_PROXY.items() if f"export {name}={value}\n" not in manual] == []


# -- the log -------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Yield a function that returns what the log's own handler has written since the last call."""
    from io import StringIO

    stream = StringIO()
    (handler,) = [found for found in logging.getLogger().handlers if isinstance(found.formatter, logs.PlainFormatter)]
    assert isinstance(handler, logging.StreamHandler)
    # Not `setStream`, which flushes the previous stream: an earlier test may have closed it.
    before, handler.stream = handler.stream, stream

    def read() -> list[str]:
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return lines

    yield read
    handler.stream = before


def test_a_refused_page_is_one_line(browser: Client, superuser: Any, written: Any) -> None:
    # Not `save`, which would end the session.
    type(superuser).objects.filter(pk=superuser.pk).update(is_superuser=False)
    forged = Client(enforce_csrf_checks=True)
    for client, method, page, status in (
        (browser, "get", "/admin/auth/user/", 403),
        (browser, "post", "/admin/llm/llmmodel/add/", 403),
        (browser, "get", "/admin/no/such/page", 404),
        (browser, "get", "/t/no-such-tenant/admin/", 404),
        (forged, "post", "/admin/login/", 403),
        (browser, "get", "/admin/login/?x=1", 302),
    ):
        response = getattr(client, method)(page)
        assert response.status_code == status, page
        lines = written()
        assert len(lines) == (1 if status >= 400 else 0), lines
    response = Client(headers={"host": "elsewhere.example"}).get("/admin/")
    assert response.status_code == 400
    assert len(written()) == 1


def test_a_failure_of_ours_keeps_its_traceback(browser: Client, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("config.site.sites.control_home", fail)
    browser.raise_request_exception = False
    assert browser.get("/admin/").status_code == 500
    lines = written()
    assert "RuntimeError: a defect" in lines[-1] and any("Traceback" in line for line in lines)
