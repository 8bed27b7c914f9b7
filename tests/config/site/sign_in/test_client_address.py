"""Which browser and address a login comes from; a claimed address counts only if a trusted proxy passed it on."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from config.site.sign_in.client_address import client_address, throttled_address
from config.site.sign_in.pages.browser_names import browser_name
from config.site.web_security import networks

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("trusted", "remote", "forwarded", "expected"),
    [
        ([], "192.0.2.1", "", "192.0.2.1"),
        ([], "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (["10.0.0.0/8"], "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7", "198.51.100.7"),
        # The client wrote the first one itself.
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (["10.0.0.0/8"], "10.0.0.1", "nonsense", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "", "10.0.0.1"),
        ([], "", "198.51.100.7", ""),
    ],
)
def test_the_nearest_address_that_is_no_proxys_counts(
    trusted: list[str], remote: str, forwarded: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", networks(trusted))
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    request = RequestFactory(headers=headers).get("/", REMOTE_ADDR=remote)
    assert client_address(request) == expected


def test_failures_from_ipv6_count_for_the_network() -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="2001:db8:1:2:3:4:5:6")
    assert throttled_address(request) == "2001:db8:1:2::/64"


def test_a_malformed_proxy_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES must be"):
        networks(["10.0.0.0/8", "proxy.example.com"])


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36", "Chrome on Windows"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) CriOS/140.0 Safari/604.1", "Chrome on iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("curl/8.0", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_named_in_words(user_agent: str, words: str) -> None:
    assert browser_name(user_agent) == words
