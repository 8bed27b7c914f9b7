"""What each role may do, in words: a table for pages on which roles are given, made from the permissions."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from tenants.access.roles import is_about_tenants, roles_with
from tenants.models import Role

# A line of the table, and one of the permissions that it stands for.
LINES = (
    (_("See runs, articles, prompts, costs, backups and the audit log"), "runs.view_run"),
    (_("Start and control runs"), "runs.change_run"),
    (_("Edit, test and activate prompts; override steps"), "prompts.change_prompt"),
    (_("Approve runs or send them back"), "runs.review_run"),
    (_("Suspend and resume tenants, set limits and budgets"), "tenants.change_tenant"),
    (_("Back up, restore and export tenants; run restore drills"), "tenants.restore_tenant"),
    (_("Open another tenant for an hour, stating a reason"), "tenants.open_other_tenant"),
    (_("Delete tenants"), "tenants.delete_tenant"),
    (_("Approve what another person requests"), "tenants.approve_operation"),
    (_("Manage users whose roles are all for these tenants"), "auth.change_user"),
    (_("See the pipeline, models, prices, providers and servers"), "llm.view_llmmodel"),
    (_("Change the pipeline, models and prices; copy prompts to all tenants"), "llm.change_stepllmdefault"),
    (_("Create and clone tenants, migrate all tenants, check providers"), "tenants.add_tenant"),
    (
        _(
            "Change providers and groups of tenants; end sessions, unlock logins and reset second factors; export the"
            " control log"
        ),
        "llm.change_llmprovider",
    ),
)
# Which tenants a line is about.
OWN, OTHERS, ALL = "own", "others", "all"


def roles_explained() -> dict[str, Any]:
    """Return {"roles": names, "parts": [(title, lines)]}; a line is (text, [whether each role allows it])."""
    parts: dict[str, list[tuple[str, list[bool]]]] = {OWN: [], OTHERS: [], ALL: []}
    for text, permission in LINES:
        held = roles_with(permission)
        parts[_part_of(permission)].append((str(text), [role in held for role in Role]))
    titles = {
        OWN: _("For the role's tenants"),
        OTHERS: _("For other tenants"),
        ALL: _("Only if the role is for all tenants"),
    }
    return {
        "roles": [role.label for role in Role],
        "parts": [(titles[part], lines) for part, lines in parts.items()],
    }


def _part_of(permission: str) -> str:
    if permission == "tenants.open_other_tenant":
        return OTHERS
    return OWN if is_about_tenants(permission) else ALL
