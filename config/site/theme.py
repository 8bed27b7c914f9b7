"""How the admin looks (django-unfold). Names of functions are called with the request (`config.site.navigation`)."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "config.site.navigation.title",
    "SITE_HEADER": "config.site.navigation.header",
    "SITE_SUBHEADER": "config.site.navigation.subheader",
    "SITE_SYMBOL": "config.site.navigation.symbol",
    "SITE_URL": None,
    "SITE_DROPDOWN": "config.site.navigation.sites",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.site.navigation.favicon"}],
    "ENVIRONMENT": "config.site.navigation.environment",
    "ENVIRONMENT_TITLE_PREFIX": "config.site.navigation.tab_prefix",
    "COLORS": {"primary": "config.site.navigation.primary_colors"},
    "STYLES": ["config.site.navigation.stylesheet"],
    "SIDEBAR": {"navigation": "config.site.navigation.sidebar"},
    # "History" leads to the audit log.
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
}
