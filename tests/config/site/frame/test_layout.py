"""The walk over all pages fails for a page that scrolls sideways, and for English on a Japanese page."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.browser.layout import is_english, sideways, untranslated

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]
ADD = """
const one = document.createElement("p");
one.innerHTML = arguments[0];
document.getElementById("content").append(one);
"""


def test_what_is_wrong_is_found(staffed: Browser) -> None:
    staffed.set_cookie(settings.LANGUAGE_COOKIE_NAME, "ja")
    staffed.open("/admin/")
    assert sideways(staffed) == untranslated(staffed) == []
    staffed.driver.execute_script(ADD, "<b>The tenant was suspended.</b><code>The run was started.</code>")
    assert "in English: The tenant was suspended." in untranslated(staffed)
    assert "in English: The run was started." not in untranslated(staffed)
    staffed.driver.execute_script(ADD, f"<b>{'x' * 400}</b>")
    assert any(line.startswith("1366 px wide") and "<b>xxx" in line for line in sideways(staffed))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Retry", True),
        ("retry", True),
        ("Tenant customer-a is closed to ann.", True),
        ("Nobody has translated this sentence", True),
        ("テナントを停止しました。", False),
        ("draft", False),
        ("claude-sonnet-5-5", False),
        ("ID", False),
        ("2026-11-27 09:51 JST", False),
    ],
)
def test_messages_and_sentences_are_told_from_names(text: str, wrong: bool) -> None:
    assert is_english(text) == wrong
