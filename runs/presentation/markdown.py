"""Render articles as HTML. An LLM wrote them, so they are not trusted: the HTML has no script, style, form or image."""

from __future__ import annotations

from functools import cache
from typing import Any

import nh3
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

TAGS = {
    *("a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
# Without the slashes, "https:/admin/" and "https:admin/" lead to this site.
ELSEWHERE = ("http://", "https://", "mailto:")
# The rest of a longer text is not rendered: rendering is for articles.
MAX_CHARS = 1024 * 1024


def article_html(text: str) -> SafeString:
    """Return the first `MAX_CHARS` characters of the Markdown text as HTML, in a `div` that Alpine ignores.

    The content has only the elements, attributes and schemes above. HTML in the text is shown as
    text, and an image as its description. Only absolute links keep their address; they open in a
    new tab, without an opener or a referrer.
    """
    body = nh3.clean(
        _parser().render(text[:MAX_CHARS]),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        attribute_filter=_only_elsewhere,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return mark_safe(f'<div class="seo-gen-article" dir="auto" x-ignore>{body}</div>')


def article_context(text: str) -> dict[str, Any]:
    """Return the values for admin/article.html; text beyond `MAX_CHARS` is shown unformatted."""
    return {
        "html": article_html(text),
        "characters": f"{len(text):,}",
        "rest": text[MAX_CHARS:],
    }


def _only_elsewhere(element: str, attribute: str, value: str) -> str | None:
    """Return the attribute's value; None, which removes it, for a link that may lead to this site."""
    if (element, attribute) == ("a", "href") and not value.lower().startswith(ELSEWHERE):
        return None
    return value


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image)
    return parser


def _image(renderer: RendererHTML, tokens: Any, index: int, options: Any, env: Any) -> str:
    description = nh3.clean_text(renderer.renderInlineAsText(tokens[index].children or [], options, env))
    return _("[image: %(description)s]") % {"description": description} if description else _("[image]")
