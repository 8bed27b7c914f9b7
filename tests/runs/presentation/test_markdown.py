"""Which HTML an article may contain on a page, whatever its Markdown is."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from runs.presentation.markdown import ATTRIBUTES, TAGS, article_html
from tests.runs.admin.hostile import HOSTILE

pytestmark = pytest.mark.unit

MARKDOWN = [
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x](/t/other/admin/runs/run/1/cancel/)",
    "[x](//elsewhere.example/x)",
    "[x](cancel/)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "![a<script>b](https://elsewhere.example/pixel.png)",
    '![x](x "onerror=alert(1)")',
    '[x](https://a.example "&quot; x-init=&quot;alert(1)")',
    "`<script>alert(1)</script>`",
    '```html x-data="{a: alert(1)}"\n<script>alert(1)</script>\n```',
    "| a |\n|:-:|\n| <img src=x onerror=alert(1)> |",
    "<form action=/logout><input name=x></form>",
    "<style>body{display:none}</style>",
    "<svg/onload=alert(1)>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    '<div x-data="{}" x-init="alert(1)" @click="alert(1)" :class="alert(1)">x</div>',
    "{{ constructor.constructor('alert(1)')() }}",
]


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


@pytest.mark.parametrize("text", [*MARKDOWN, *HOSTILE])
def test_only_harmless_elements_and_attributes_are_left(text: str) -> None:
    elements = Elements()
    elements.feed(article_html(text))
    (wrapper, attributes), *inside = elements.found
    assert wrapper == "div" and "x-ignore" in attributes
    for tag, given in inside:
        assert tag in TAGS, text
        assert given.keys() <= ATTRIBUTES.get(tag, set()) | ({"rel", "target"} if tag == "a" else set()), text
        assert given.get("href", "https://").startswith(("https://", "http://", "mailto:")), text


@pytest.mark.parametrize("address", ["/admin/", "//", "https:/admin/", "HTTPS:admin/", "http:", "https:\\\\a", "?a"])
def test_a_link_that_may_lead_to_this_site_has_no_address(address: str) -> None:
    assert "href" not in article_html(f"[x]({address})")


def test_an_article_is_rendered() -> None:
    html = article_html("# 見出し\n\n本文 **強調** [x](https://a.example/?a=1&b=2)\n\n- one\n\n| a |\n|---|\n| b |\n")
    for part in ("<h1>見出し</h1>", "<strong>強調</strong>", "<li>one</li>", "<td>b</td>"):
        assert part in html
    assert 'href="https://a.example/?a=1&amp;b=2"' in html
    assert 'rel="noopener noreferrer nofollow"' in html and 'target="_blank"' in html
    assert "[image: a cup]" in article_html("![a cup](https://a.example/cup.png)")
    assert "[image]" in article_html("![](https://a.example/cup.png)")
    assert "&lt;b&gt;not bold&lt;/b&gt;" in article_html("<b>not bold</b>")
