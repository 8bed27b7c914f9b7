"""The checks of layout.py find pages that scroll sideways, cut off text, misalign numbers or stay in English."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.browser.layout import cut, is_english, ragged, sideways, untranslated

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
    ("html", "found"),
    [
        ('<input placeholder="Part of a name" style="width: 60px">', "820 px wide: Part of a name (cut)"),
        ('<input placeholder="Part of a name" style="width: 200px">', None),
        ('<select style="width: 30px"><option>standard</select>', "1366 px wide: standard (cut)"),
        (
            '<span class="seo-gen-crumb-last" style="display: block; width: 40px">outline v2</span>',
            "outline v2: 40 px (cut)",
        ),
        ('<table><thead><tr><th style="width: 3em; word-break: normal; display: block">レビュー</table>', "ー (cut)"),
        ("<table><thead><tr><th>n<th>s<tbody><tr><td>1<td>a<tr><td>-<td>3", "n: 1 (not right-aligned)"),
        ('<table style="text-align: right"><thead><tr><th>n<th>s<tbody><tr><td>1<td>3 KiB', None),
    ],
)
def test_texts_that_are_cut_and_numbers_that_are_ragged_are_found(
    html: str, found: str | None, staffed: Browser
) -> None:
    staffed.open("/admin/")
    assert cut(staffed) == ragged(staffed) == []
    staffed.driver.execute_script(ADD.replace('"p"', '"div"'), html)
    wrong = "\n".join([*cut(staffed), *ragged(staffed)])
    assert (found in wrong) if found else wrong == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Retry", True),
        ("retry", True),
        ("The temporary access of ann to tenant customer-a has ended.", True),
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


def test_the_whole_menu_fits_on_a_small_laptop(staffed: Browser) -> None:
    staffed.resize(1366, 768)
    staffed.open("/admin/")
    below = """
        const box = document.getElementById("nav-sidebar-apps").getBoundingClientRect();
        return [...document.querySelectorAll(".seo-gen-menu-group")]
            .filter((one) => one.getBoundingClientRect().bottom > box.bottom).map((one) => one.textContent);
    """
    assert staffed.driver.execute_script(below) == []
    # A group that is closed at first opens on its own pages, and stays as a person left it.
    staffed.open("/admin/auth/user/")
    assert staffed.driver.execute_script("return document.querySelector('a.active').closest('details').open")
    staffed.open("/admin/")
    is_open = "return [...document.querySelectorAll('details[data-menu-group]')].at(-1).open"
    assert not staffed.driver.execute_script(is_open)
    staffed.click("div:last-of-type > details[data-menu-group] > summary")
    staffed.open("/admin/costs/")
    assert staffed.driver.execute_script(is_open)


def test_a_table_is_as_wide_as_its_card(staffed: Browser) -> None:
    staffed.open("/admin/")
    staffed.driver.execute_script(
        ADD.replace('"p"', '"div"'), '<div class="seo-gen-scroll"><table class="seo-gen-table"><tr><td>1</table></div>'
    )
    narrow = """
        return [...document.querySelectorAll(".seo-gen-scroll > .seo-gen-table")]
            .filter((one) => one.offsetWidth < one.parentElement.clientWidth).length;
    """
    assert staffed.driver.execute_script(narrow) == 0
