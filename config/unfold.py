"""How the admin looks (django-unfold). Names of functions are called with the request (`config.admin_navigation`)."""

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "config.admin_navigation.title",
    "SITE_HEADER": "config.admin_navigation.header",
    "SITE_SUBHEADER": "config.admin_navigation.subheader",
    "SITE_SYMBOL": "config.admin_navigation.symbol",
    "SITE_URL": None,
    "SITE_DROPDOWN": "config.admin_navigation.sites",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.admin_navigation.favicon"}],
    "ENVIRONMENT": "config.admin_navigation.environment",
    "ENVIRONMENT_TITLE_PREFIX": "config.admin_navigation.tab_prefix",
    "COLORS": {"primary": "config.admin_navigation.primary_colors"},
    "STYLES": ["config.admin_navigation.stylesheet"],
    "SIDEBAR": {"navigation": "config.admin_navigation.sidebar"},
    # "History" leads to the audit log.
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
}
