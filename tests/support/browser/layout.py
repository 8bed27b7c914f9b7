"""Find what axe-core does not: pages that scroll sideways, and English on Japanese pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.browser.chromium import Browser

CHECKOUT = Path(__file__).parents[3]
WIDTHS = (1366, 820)
PLACEHOLDER = re.compile(r"%\(\w+\)[#0\- +]?[\d.]*[a-z]|%%|\{\w+\}")
LETTERS = re.compile("[A-Za-z]")
# A message with fewer letters beside its placeholders would match too much.
MIN_LETTERS = 8
# Three words of Latin letters in a row, and nothing else but signs.
SENTENCE = re.compile(r"[A-Z][a-z]+(?: [a-z]+){2,}[^\u3000-\u9fff]*\Z")
# What is called the same in both languages: steps of the pipeline, a provider's answer.
NAMES = {"draft", "final", "outline", "keyword", "language", "control", "tenant", "Local LLM", "English", "system"}
# The elements that stick out name the cause.
SIDEWAYS = """
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= width) return [];
const out = [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > width + 1
    && one.checkVisibility() && !one.closest("[class*=overflow-x-auto], [class*=overflow-auto], .seo-gen-scroll"));
return out.slice(0, 3).map((one) => one.outerHTML.slice(0, 160)).concat([`${document.documentElement.scrollWidth} px`]);
"""
# What a person wrote, or what has the same name in both languages, is marked, or stands in one of these.
TEXTS = """
const found = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (parent.closest("script, style, code, pre, textarea, bdi, [lang=en], .material-symbols-outlined")) continue;
    if (!parent.checkVisibility({visibilityProperty: true})) continue;
    const text = walker.currentNode.textContent.replace(/\\s+/g, " ").trim();
    if (text) found.add(text);
}
for (const one of document.querySelectorAll("[placeholder], [aria-label], [title]"))
    for (const name of ["placeholder", "aria-label", "title"])
        if (one.getAttribute(name)) found.add(one.getAttribute(name).trim());
return [...found];
"""


def sideways(browser: Browser) -> list[str]:
    """Return, for each of the widths at which the open page scrolls sideways, up to three elements that stick out and
    the width of the content.
    """
    found = []
    try:
        for width in WIDTHS:
            browser.resize(width, 900)
            found += [f"{width} px wide: {one}" for one in browser.driver.execute_script(SIDEWAYS)]
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return found


def untranslated(browser: Browser) -> list[str]:
    """Return the English texts on the open page, which is in Japanese: messages with a translation, and whole
    sentences.
    """
    return [f"in English: {text}" for text in browser.driver.execute_script(TEXTS) if is_english(text)]


def is_english(text: str) -> bool:
    return text not in NAMES and bool(messages().match(text) or SENTENCE.match(text))


@cache
def messages() -> re.Pattern[str]:
    """Return a pattern that matches our messages whose Japanese text differs, except those with too few letters."""
    import polib

    found = set()
    for entry in polib.pofile(str(CHECKOUT / "locale" / "ja" / "LC_MESSAGES" / "django.po")):
        plural = entry.msgstr_plural.get(0, "") if entry.msgid_plural else ""
        for english, japanese in ((entry.msgid, entry.msgstr or plural), (entry.msgid_plural, plural)):
            parts = PLACEHOLDER.split(" ".join(english.split()))
            if (
                japanese
                and japanese != english
                and len(LETTERS.findall(" ".join(parts))) >= (MIN_LETTERS if len(parts) > 1 else 3)
            ):
                first = (
                    f"[{english[0].lower()}{english[0].upper()}]" if english[0].isalpha() else re.escape(parts[0][:1])
                )
                found.add(first + re.escape(parts[0][1:]) + "".join(f".+{re.escape(part)}" for part in parts[1:]))
    return re.compile(f"(?:{'|'.join(sorted(found))})\\Z")
