"""The frame of every admin page: whose data it shows, its color and scripts, and the menu."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from config.site.frame.colors import CONTROL_HUE, hue_of, palette
from config.site.frame.search import Hit
from tenants.access.about import about_tenant
from tenants.models import Tenant
from tenants.routing.context import current_tenant_or_none
from tenants.routing.site_urls import control_url
from tenants.selectors import tenant_get

PRODUCT = "seo-gen"
# The request attributes that cache its tenant and its menu.
TENANT, MENU = "seo_gen_tenant", "seo_gen_menu"

Item = dict[str, Any]


def title(request: HttpRequest) -> str:
    return PRODUCT


def tab_prefix(request: HttpRequest) -> str:
    """Return the beginning of the browser tab's title, which a narrow tab shows too; "" on the control site."""
    tenant = _tenant(request)
    return f"{tenant.id}:" if tenant else ""


def header(request: HttpRequest) -> str:
    tenant = _tenant(request)
    return tenant.name if tenant else PRODUCT


def subheader(request: HttpRequest) -> str:
    tenant = _tenant(request)
    return _("Tenant %(id)s") % {"id": tenant.id} if tenant else _("Control site")


def symbol(request: HttpRequest) -> str:
    return "domain" if _tenant(request) else "tune"


def environment(request: HttpRequest) -> list[str]:
    """Return the text and the color of the badge at the top of each page."""
    tenant = _tenant(request)
    return [_("Tenant %(id)s") % {"id": tenant.id}, "primary"] if tenant else [_("Control"), "info"]


def primary_colors(request: HttpRequest) -> dict[str, str]:
    """Return the palette of the tenant's hue or the control site's, so that browser tabs are easy to tell apart."""
    tenant = _tenant(request)
    # Copied, because the theme converts the values in place.
    return dict(palette(hue_of(_rank(tenant.identity, tenant.created_at)) if tenant else CONTROL_HUE))


def language_action(request: HttpRequest) -> str:
    return control_url("set_language")


def palette_script(request: HttpRequest) -> str:
    return static("config/palette.js")


def labels_script(request: HttpRequest) -> str:
    return static("config/labels.js")


def typed_script(request: HttpRequest) -> str:
    return static("config/typed.js")


def charts_script(request: HttpRequest) -> str:
    return static("config/charts.js")


def stylesheet(request: HttpRequest) -> str:
    return static("config/admin.css")


def favicon(request: HttpRequest) -> str:
    return static("config/favicon.svg")


def sidebar(request: HttpRequest) -> list[Item]:
    """Return the menu, which is built once per request: the breadcrumb needs it too."""
    found: list[Item] | None = getattr(request, MENU, None)
    if found is None:
        found = _menu(request)
        # The theme would mark every entry whose address the page's begins with.
        active = _entry_of(request.path, found)
        for group in found:
            for item in group["items"]:
                item["active"] = item is active
        setattr(request, MENU, found)
    return found


def active_entry(request: HttpRequest) -> Item | None:
    """Return the entry of the menu that the page belongs to; None if there is none."""
    return next((item for group in sidebar(request) for item in group["items"] if item["active"]), None)


def entry_titles(request: HttpRequest) -> dict[str, str]:
    """Return {URL: title} of the menu's entries."""
    return {item["link"]: item["title"] for group in sidebar(request) for item in group["items"]}


def _entry_of(path: str, menu: list[Item]) -> Item | None:
    """Return the entry with the longest address that `path` begins with, or None. The overview matches only itself."""
    home = reverse("admin:index")
    items = [item for group in menu for item in group["items"]]
    within = [
        item for item in items if path == item["link"] or (path.startswith(item["link"]) and item["link"] != home)
    ]
    return max(within, key=lambda item: len(item["link"]), default=None)


def _menu(request: HttpRequest) -> list[Item]:
    if _tenant(request):
        return _tenant_menu(request)
    # The menu is the same on every page, including those about one tenant.
    with about_tenant(None):
        return _control_menu(request)


def menu_entries(request: HttpRequest) -> list[Hit]:
    """Return the entries of the menu that the person may open, for the search."""
    return [
        Hit(item["title"], item["link"], group["title"], item["icon"])
        for group in sidebar(request)
        for item in group["items"]
        if "permission" not in item or item["permission"](request)
    ]


def _control_menu(request: HttpRequest) -> list[Item]:
    return [
        _group("", _overview()),
        _group(
            _("Customers"),
            _item(request, "tenants.tenant", "apartment", _("Tenants")),
            _item(request, "tenants.operationrequest", "pending_actions", _("Operations")),
            _item(request, "tenants.approval", "approval", _("Approvals")),
            _costs(request, "tenants.view_costs", _("Costs")),
            _item(request, "tenants.databaseserver", "database", _("Database servers")),
            _item(request, "tenants.tenantschema", "schema", _("Fleet")),
            _item(request, "tenants.migrationbatch", "published_with_changes", _("Batches")),
        ),
        _group(
            _("Backups"),
            _item(request, "tenants.backup", "backup", _("Backups")),
            _item(request, "tenants.restore", "settings_backup_restore", _("Restores")),
            _item(request, "tenants.basebackup", "storage", _("Base backups")),
            closed=True,
        ),
        _group(
            _("LLM"),
            _item(request, "llm.stepllmdefault", "conversion_path", _("Pipeline")),
            _item(request, "llm.llmprovider", "hub", _("Providers")),
            _item(request, "llm.llmmodel", "smart_toy", _("Models and prices")),
        ),
        _group(
            _("History"),
            _item(request, "audit_control.controlauditlog", "history", _("Audit log")),
            _item(request, "audit_control.auditanchor", "anchor", _("Anchors")),
            _item(request, "tenants.erasure", "delete_forever", _("Erasures")),
            _item(request, "audit_control.auditarchive", "inventory_2", _("Archived audit logs")),
            _item(request, "audit_control.archivedauditlog", "manage_history", _("Archived audit entries")),
            closed=True,
        ),
        _group(
            _("Staff"),
            _item(request, "auth.user", "person", _("Users")),
            _item(request, "tenants.temporaryaccess", "key", _("Temporary access")),
            _item(request, "tenants.tenantgroup", "group_work", _("Groups of tenants")),
            {
                "title": _("Sign-ins"),
                "icon": "passkey",
                "link": reverse("admin:sign_ins"),
                "permission": lambda request: request.user.has_perm("sign_in.manage_sign_ins"),
            },
            closed=True,
        ),
    ]


def _tenant_menu(request: HttpRequest) -> list[Item]:
    return [
        _group("", _overview()),
        _group(
            _("Articles"),
            _item(request, "runs.run", "play_circle", _("Runs")),
            _reviews(request),
            _item(request, "runs.step", "conversion_path", _("Steps")),
            _item(request, "runs.artifact", "article", _("Artifacts")),
            _costs(request, "runs.view_runcost", _("Costs")),
            _item(request, "runs.runcost", "receipt_long", _("Costs of runs")),
        ),
        _group(
            _("Configuration"),
            _item(request, "prompts.prompt", "edit_note", _("Prompts")),
            _item(request, "runs.stepoverride", "alt_route", _("Overrides")),
        ),
        _group(_("History"), _item(request, "audit.auditlog", "history", _("Audit log"))),
    ]


def _group(name: str, *items: Item, closed: bool = False) -> Item:
    """Return a group of the menu.

    A `closed` group is collapsed, except on its own pages, until a person opens it; the browser remembers that.
    """
    return {"title": name, "items": list(items), "closed": closed}


def _overview() -> Item:
    return {"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}


def _costs(request: HttpRequest, permission: str, title: str) -> Item:
    link = reverse("admin:costs")
    return {
        "title": title,
        "icon": "payments",
        "link": link,
        "permission": lambda _request: request.user.has_perm(permission),
    }


def _item(request: HttpRequest, label: str, icon: str, name: str) -> Item:
    app, model = label.split(".")
    allowed = request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
    return {
        "title": name,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: allowed,
    }


@cache
def _rank(identity: UUID, created_at: datetime) -> int:
    """Return how many tenants were created before this one.

    Erased ones count too, so that an erasure changes no other tenant's color.
    """
    return Tenant.objects.using(CONTROL).filter(created_at__lt=created_at).count()


def _reviews(request: HttpRequest) -> Item:
    allowed = request.user.has_perm("runs.review_run") and request.user.has_perm("runs.view_run")
    return {
        "title": _("Reviews"),
        "icon": "rate_review",
        "link": reverse("admin:runs_run_reviews"),
        "permission": lambda request: allowed,
    }


def _tenant(request: HttpRequest) -> Tenant | None:
    """Return the tenant whose site this is; None on the control site."""
    active = current_tenant_or_none()
    if active is None:
        return None
    found: Tenant | None = getattr(request, TENANT, None)
    if found is None:
        # Once per request, since many functions above need it.
        found = tenant_get(active.id)
        setattr(request, TENANT, found)
    return found
