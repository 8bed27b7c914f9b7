"""How the admin looks (django-unfold)."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "seo-gen",
    "SITE_HEADER": "seo-gen",
    "SITE_SYMBOL": "article",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
}
