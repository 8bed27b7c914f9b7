"""Show the difference between two texts on a page."""

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

LINE_CLASSES = {"+": "seo-gen-added", "-": "seo-gen-removed", "@": "seo-gen-place"}


def as_diff(difference: str) -> SafeString:
    """Return a unified diff as HTML, with its lines in colors."""
    lines = ((LINE_CLASSES.get(line[:1], ""), line) for line in difference.splitlines(keepends=True))
    return format_html('<pre class="seo-gen-code">{}</pre>', format_html_join("", '<span class="{}">{}</span>', lines))
