"""What each role may do. Django's own permissions and groups are ignored; superusers may do everything.

A permission is either about a tenant or about the installation. Those about a tenant count for the tenants that the
role is assigned for. Those about the installation, such as prices, which all tenants share, count only if the role is
assigned for all tenants.
"""

from __future__ import annotations

from collections.abc import Mapping

from tenants.models import Role


def _of(verbs: str, *models: str) -> frozenset[str]:
    """Return Django's names: `_of("add view", "runs.run")` gives runs.add_run and runs.view_run."""
    pairs = [model.split(".") for model in models]
    return frozenset(f"{app}.{verb}_{name}" for app, name in pairs for verb in verbs.split())


# -- about a tenant --
VIEW = _of(
    "view",
    *("runs.run", "runs.step", "runs.artifact", "runs.runcost", "runs.stepoverride", "prompts.prompt"),
    *("audit.auditlog", "audit_control.controlauditlog"),
    *("audit_control.auditanchor", "audit_control.auditarchive", "audit_control.archivedauditlog"),
    *(
        "tenants.tenant",
        "tenants.tenantschema",
        "tenants.backup",
        "tenants.restore",
        "tenants.erasure",
        "tenants.costs",
    ),
    *("tenants.temporaryaccess", "tenants.operationrequest", "tenants.approval"),
)
EDIT = _of("add change", "runs.run") | _of("add change delete", "prompts.prompt", "runs.stepoverride")
REVIEW = frozenset({"runs.review_run"})
OPERATE = frozenset(
    {
        "tenants.change_tenant",
        "tenants.export_tenant",
        "tenants.backup_tenant",
        "tenants.restore_tenant",
        "tenants.drill_tenant",
        "tenants.copy_tenant",
        # Open a tenant outside one's own, for an hour and for a reason.
        "tenants.open_other_tenant",
    }
)
# Users are managed by those who administer all tenants that the user has a role for.
ADMINISTRATE = frozenset({"tenants.delete_tenant", "tenants.approve_operation"}) | _of(
    "add change delete view", "auth.user"
)

# -- about the installation --
VIEW_INSTALLATION = _of(
    "view",
    *("llm.llmprovider", "llm.llmmodel", "llm.stepllmdefault"),
    *("tenants.databaseserver", "tenants.migrationbatch", "tenants.basebackup"),
)
EDIT_INSTALLATION = _of("add change delete", "llm.stepllmdefault", "llm.llmmodel") | {
    "llm.set_prices",
    "prompts.copy_prompt",
}
OPERATE_INSTALLATION = frozenset({"tenants.add_tenant", "tenants.migrate_fleet", "llm.check_provider"})
ADMINISTRATE_INSTALLATION = (
    # Not servers: the admin lets only superusers change them.
    _of("add change delete", "llm.llmprovider")
    | _of("add change delete view", "tenants.tenantgroup")
    | {"audit_control.export_controlauditlog", "sign_in.manage_sign_ins"}
)

ABOUT_TENANTS: Mapping[str, frozenset[str]] = {
    Role.VIEWER: VIEW,
    Role.EDITOR: VIEW | EDIT,
    Role.REVIEWER: VIEW | REVIEW,
    Role.OPERATOR: VIEW | OPERATE,
    Role.ADMINISTRATOR: VIEW | EDIT | REVIEW | OPERATE | ADMINISTRATE,
}
ABOUT_THE_INSTALLATION: Mapping[str, frozenset[str]] = {
    Role.VIEWER: VIEW_INSTALLATION,
    Role.EDITOR: VIEW_INSTALLATION | EDIT_INSTALLATION,
    Role.REVIEWER: VIEW_INSTALLATION,
    Role.OPERATOR: VIEW_INSTALLATION | OPERATE_INSTALLATION,
    Role.ADMINISTRATOR: (VIEW_INSTALLATION | EDIT_INSTALLATION | OPERATE_INSTALLATION | ADMINISTRATE_INSTALLATION),
}


def roles_with(permission: str) -> frozenset[str]:
    """Return the roles that have a permission of either kind."""
    return frozenset(role.value for role in Role if permission in ABOUT_TENANTS[role] | ABOUT_THE_INSTALLATION[role])


def is_about_tenants(permission: str) -> bool:
    """Return whether a permission is about a tenant; False for an unknown one, which no role has."""
    return permission in ABOUT_TENANTS[Role.ADMINISTRATOR]
