"""Find what axe-core does not: sideways scrolling, texts that are cut, ragged numbers, English on Japanese pages."""

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
# A hint or a choice that is wider than its field, a breadcrumb that is cut, and a heading whose last character has a
# line of its own.
CUT = """
const context = document.createElement("canvas").getContext("2d");
const fits = (one, text) => {
    const style = getComputedStyle(one);
    context.font = style.font;
    return context.measureText(text).width <= one.clientWidth - parseFloat(style.paddingLeft)
        - parseFloat(style.paddingRight) + 1;
};
const seen = (css) => [...document.querySelectorAll(css)].filter((one) => one.checkVisibility());
const lastLine = (heading) => {
    const range = document.createRange(), tops = [];
    const walker = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT);
    while (walker.nextNode())
        for (let at = 0; at < walker.currentNode.length; at++) {
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + 1);
            const place = range.getBoundingClientRect();
            if (range.toString().trim() && place.width) tops.push(place.top);
        }
    return tops.filter((top) => Math.abs(top - tops.at(-1)) < 4).length === 1 && tops.length > 1;
};
return [
    ...seen("input[placeholder]").map((one) => [one, one.value ? "" : one.placeholder])
        .filter(([one, text]) => !fits(one, text)).map(([_one, text]) => text),
    ...seen("select:not([multiple], .select2-hidden-accessible)")
        .map((one) => [one, one.selectedOptions[0]?.text ?? ""])
        .filter(([one, text]) => !fits(one, text)).map(([_one, text]) => text),
    ...seen(".seo-gen-crumb, .seo-gen-crumb-last").filter((one) => one.scrollWidth > one.clientWidth + 1
        && one.clientWidth < 200).map((one) => `${one.textContent}: ${one.clientWidth} px`),
    ...seen("#content thead th").filter(lastLine).map((one) => one.innerText),
].map((one) => `${one} (cut)`);
"""
# Columns with nothing but numbers, their units included, that are not right-aligned. On a narrow screen, the rows of a
# list are cards, whose values are all on the right.
RAGGED = r"""
const NUMBER = /^[+−-]?[\d,]+(\.\d+)? ?(B|[KMGT]iB|ms|s|%|USD|秒|ミリ秒)?$/;
const text = (cell) => cell.innerText.trim();
const right = (cell) => {
    const inner = cell.firstElementChild;
    return /right|end/.test(getComputedStyle(cell).textAlign)
        || (inner && /end/.test(getComputedStyle(inner).justifyContent));
};
return [...document.querySelectorAll("#content table")].filter((one) => one.checkVisibility()).flatMap((table) => {
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.cells.length > 1);
    const heads = [...table.tHead?.rows[0]?.cells ?? []];
    return heads.flatMap((head, at) => {
        const cells = rows.map((row) => row.cells[at]).filter(
            (cell) => cell && !["", "-"].includes(text(cell)) && getComputedStyle(cell).display === "table-cell");
        if (!cells.length || !cells.every((cell) => NUMBER.test(text(cell)) && cell.rowSpan === 1)) return [];
        const shown = head.closest(".seo-gen-unseen") ? cells : [head, ...cells];
        return shown.every(right) ? [] : [`${text(head)}: ${text(cells[0])} (not right-aligned)`];
    });
});
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


def misfits(browser: Browser) -> list[str]:
    """Return what sticks out of the open page, what is cut, and what is not aligned, at each width."""
    return _at_each_width(browser, SIDEWAYS, CUT, RAGGED)


def sideways(browser: Browser) -> list[str]:
    """Return up to three elements that stick out, and the page's width, for each width at which it scrolls sideways."""
    return _at_each_width(browser, SIDEWAYS)


def cut(browser: Browser) -> list[str]:
    """Return, at each width, the hints, choices and breadcrumbs of the open page that are cut, and the column headings
    whose last character has a line of its own.
    """
    return _at_each_width(browser, CUT)


def ragged(browser: Browser) -> list[str]:
    """Return the columns of numbers of the open page that are not right-aligned, at each width."""
    return _at_each_width(browser, RAGGED)


def _at_each_width(browser: Browser, *scripts: str) -> list[str]:
    found = []
    try:
        for width in WIDTHS:
            browser.resize(width, 900)
            for script in scripts:
                found += [f"{width} px wide: {one}" for one in browser.driver.execute_script(script)]
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
