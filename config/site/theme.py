"""How the admin looks (django-unfold).

Functions are given by their dotted paths and called with the request.
"""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "config.site.navigation.title",
    "SITE_HEADER": "config.site.navigation.header",
    "SITE_SUBHEADER": "config.site.navigation.subheader",
    "SITE_SYMBOL": "config.site.navigation.symbol",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.site.navigation.favicon"}],
    "ENVIRONMENT": "config.site.navigation.environment",
    "ENVIRONMENT_TITLE_PREFIX": "config.site.navigation.tab_prefix",
    "COLORS": {"primary": "config.site.navigation.primary_colors"},
    "STYLES": ["config.site.navigation.stylesheet"],
    "SCRIPTS": [
        "config.site.navigation.palette_script",
        "config.site.navigation.labels_script",
        "config.site.navigation.typed_script",
        "config.site.navigation.charts_script",
    ],
    "SHOW_LANGUAGES": True,
    "LANGUAGES": {"action": "config.site.navigation.language_action"},
    "SIDEBAR": {"navigation": "config.site.navigation.sidebar"},
    "ACCOUNT": {"navigation": "config.site.sign_in.pages.site.account_links"},
    # "History" leads to the audit log.
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
}
