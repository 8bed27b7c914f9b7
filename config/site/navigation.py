"""The frame of every admin page: whose data it shows, links to the other sites, the menu."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from django.db.models import QuerySet
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _

from tenants.models import Tenant
from tenants.routing.context import current_tenant_or_none
from tenants.routing.site_urls import control_url, tenant_url
from tenants.selectors import tenant_get, tenants_active

PRODUCT = "seo-gen"
# A longer list is no longer a quick way to a tenant; the page of all tenants has a search.
SWITCHER_LENGTH = 12
# Lightness and chroma of the shades; the hue identifies the site.
SHADES = {
    "50": (0.977, 0.014),
    "100": (0.946, 0.033),
    "200": (0.902, 0.063),
    "300": (0.827, 0.11),
    "400": (0.714, 0.17),
    "500": (0.627, 0.19),
    "600": (0.53, 0.18),
    "700": (0.46, 0.16),
    "800": (0.40, 0.13),
    "900": (0.35, 0.11),
    "950": (0.27, 0.09),
}
CONTROL_HUE = 265
# The request attribute that caches its tenant.
TENANT = "seo_gen_tenant"

Item = dict[str, Any]


def title(request: HttpRequest) -> str:
    return PRODUCT


def tab_prefix(request: HttpRequest) -> str:
    """Return the start of the title of a browser tab, which even a narrow tab shows."""
    tenant = _tenant(request)
    return f"{tenant.id}:" if tenant else ""


def header(request: HttpRequest) -> str:
    tenant = _tenant(request)
    return tenant.name if tenant else PRODUCT


def subheader(request: HttpRequest) -> str:
    tenant = _tenant(request)
    return _("Tenant %(id)s") % {"id": tenant.id} if tenant else _("Control: all tenants")


def symbol(request: HttpRequest) -> str:
    return "domain" if _tenant(request) else "tune"


def environment(request: HttpRequest) -> list[str]:
    """Return the badge at the top of each page, and its colour."""
    tenant = _tenant(request)
    return [_("Tenant %(id)s") % {"id": tenant.id}, "primary"] if tenant else [_("Control"), "info"]


def primary_colors(request: HttpRequest) -> dict[str, str]:
    """Return the tenant's own palette, so that tabs on different tenants are easy to tell apart."""
    tenant = _tenant(request)
    hue = crc32(tenant.id.encode()) % 360 if tenant else CONTROL_HUE
    return {shade: f"oklch({light} {chroma} {hue})" for shade, (light, chroma) in SHADES.items()}


def stylesheet(request: HttpRequest) -> str:
    return static("config/admin.css")


def favicon(request: HttpRequest) -> str:
    return static("config/favicon.svg")


def sites(request: HttpRequest) -> list[Item]:
    """Return the switcher: the control site, then the first tenants in alphabetical order."""
    if not request.user.is_staff:
        return []
    found = list(_switchable()[: SWITCHER_LENGTH + 1])
    links = [_switch(tenant) for tenant in found[:SWITCHER_LENGTH]]
    if len(found) > SWITCHER_LENGTH and request.user.has_perm("tenants.view_tenant"):
        links.append(
            {"icon": "more_horiz", "title": _("All tenants …"), "link": control_url("admin:tenants_tenant_changelist")}
        )
    return [{"icon": "tune", "title": _("Control"), "link": control_url("admin:index")}, *links]


def sidebar(request: HttpRequest) -> list[Item]:
    return _tenant_menu(request) if _tenant(request) else _control_menu(request)


def _control_menu(request: HttpRequest) -> list[Item]:
    return [
        _group("", _overview()),
        _group(
            _("Customers"),
            _item(request, "tenants.tenant", "apartment", _("Tenants")),
            _item(request, "tenants.databaseserver", "database", _("Database servers")),
            _item(request, "tenants.tenantschema", "schema", _("Fleet")),
            _item(request, "tenants.migrationbatch", "published_with_changes", _("Migrations")),
        ),
        _group(
            _("Backups"),
            _item(request, "tenants.backup", "backup", _("Backups")),
            _item(request, "tenants.restore", "settings_backup_restore", _("Restores")),
            _item(request, "tenants.basebackup", "storage", _("Base backups")),
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
            _item(request, "tenants.erasure", "delete_forever", _("Erasures")),
            _item(request, "audit_control.auditarchive", "inventory_2", _("Archived audit logs")),
            _item(request, "audit_control.archivedauditlog", "manage_history", _("Archived entries")),
        ),
        _group(
            _("Staff"),
            _item(request, "auth.user", "person", _("Users")),
            _item(request, "auth.group", "group", _("Groups")),
        ),
    ]


def _tenant_menu(request: HttpRequest) -> list[Item]:
    return [
        _group("", _overview()),
        _group(
            _("Articles"),
            _item(request, "runs.run", "play_circle", _("Runs")),
            _item(request, "runs.step", "conversion_path", _("Steps")),
            _item(request, "runs.artifact", "article", _("Artifacts")),
            _item(request, "runs.runcost", "payments", _("Costs")),
        ),
        _group(_("Configuration"), _item(request, "prompts.prompt", "edit_note", _("Prompts"))),
        _group(_("History"), _item(request, "audit.auditlog", "history", _("Audit log"))),
    ]


def _group(name: str, *items: Item) -> Item:
    return {"title": name, "items": list(items)}


def _overview() -> Item:
    return {"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}


def _item(request: HttpRequest, label: str, icon: str, name: str) -> Item:
    app, model = label.split(".")
    allowed = request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
    return {
        "title": name,
        "icon": icon,
        "link": reverse(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: allowed,
    }


def _switch(tenant: Tenant) -> Item:
    return {"icon": "domain", "title": tenant.name, "link": tenant_url(tenant.id, "admin:index")}


def _switchable() -> QuerySet[Tenant]:
    return tenants_active().order_by("name")


def _tenant(request: HttpRequest) -> Tenant | None:
    """Return the tenant whose site this is; None on the control site."""
    active = current_tenant_or_none()
    if active is None:
        return None
    found: Tenant | None = getattr(request, TENANT, None)
    if found is None:
        # Once per request, since every function above needs it.
        found = tenant_get(active.id)
        setattr(request, TENANT, found)
    return found
