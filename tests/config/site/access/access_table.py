"""Which roles may open which page: every view of both sites, by the name of its URL.

Every new view must be added here; until then, `test_matrix.py` fails. For a view about tenants or on a tenant's site,
list the roles that may open it for their tenants; for a view about the installation, list those that may open it if
they are for all tenants.
"""

from __future__ import annotations

from collections.abc import Mapping

ALL = "viewer editor reviewer operator administrator"
EDITORS = "editor administrator"
REVIEWERS = "reviewer administrator"
OPERATORS = "operator administrator"
ADMINISTRATORS = "administrator"
NONE = ""

# What each admin class of Django has: the roles that see rows, and those that add, change and delete them.
STANDARD = ("changelist", "history", "change", "add", "delete")


def pages(model: str, see: str, *, add: str = NONE, delete: str = NONE) -> dict[str, str]:
    """Return {URL name: roles that may open it} for a model's standard views; "change" is read-only for some roles."""
    roles = {"changelist": see, "change": see, "history": ALL, "add": add, "delete": delete}
    return {f"{model}_{view}": roles[view] for view in STANDARD}


# Views that everyone who logs in has: overviews and pages about oneself. They show the tenants of one's roles only.
EVERYONE = frozenset(
    {
        *("index", "login", "logout", "password_change", "password_change_done", "autocomplete", "jsi18n", "app_list"),
        # The redirect at "/", and the answer to addresses without a page.
        "",
        # Signing in, one's own account, and the search, which finds what one may see.
        *("set_language", "search", "account", "second_factor_codes", "second_factor_off"),
        *("sign_in_code", "sign_in_enrol", "sign_in_openid", "sign_in_openid_callback"),
    }
)

# The control site: views about tenants. A row of another tenant does not exist.
ABOUT_TENANTS: Mapping[str, str] = {
    **pages("tenants_tenant", ALL),
    "tenants_tenant_suspend": OPERATORS,
    "tenants_tenant_resume": OPERATORS,
    "tenants_tenant_limit": OPERATORS,
    "tenants_tenant_budget": OPERATORS,
    **{f"tenants_tenant_{name}": OPERATORS for name in ("back_up", "restore", "undo", "drill", "export")},
    # It makes a new tenant, so the role must be for all tenants (`test_only_a_role_for_all_tenants_copies_one`).
    "tenants_tenant_copy": NONE,
    "tenants_tenant_erase": ADMINISTRATORS,
    **pages("tenants_tenantschema", ALL),
    **pages("tenants_backup", ALL),
    "tenants_backup_download": OPERATORS,
    **pages("tenants_operationrequest", ALL),
    "tenants_operationrequest_progress": ALL,
    "tenants_operationrequest_recover": OPERATORS,
    # Who may decide, start or withdraw depends on the row, so the service says it (`test_approvals`).
    **pages("tenants_approval", ALL),
    **{f"tenants_approval_{name}": ALL for name in ("approve", "reject", "start", "withdraw")},
    "costs": ALL,
    **pages("tenants_restore", ALL),
    **pages("tenants_erasure", ALL),
    "tenants_erasure_certificate": ALL,
    **pages("tenants_temporaryaccess", ALL, add=OPERATORS),
    "tenants_temporaryaccess_close": ADMINISTRATORS,
    **pages("audit_control_controlauditlog", ALL),
    **pages("audit_control_auditanchor", ALL),
    **pages("audit_control_auditarchive", ALL),
    **pages("audit_control_archivedauditlog", ALL),
    # Users whose roles are all for one's tenants.
    **pages("auth_user", ADMINISTRATORS, add=ADMINISTRATORS, delete=ADMINISTRATORS),
    "auth_user_password_change": ADMINISTRATORS,
}

# The control site: what all tenants share. These roles must be for all tenants.
ABOUT_THE_INSTALLATION: Mapping[str, str] = {
    **pages("llm_llmprovider", ALL, add=ADMINISTRATORS, delete=ADMINISTRATORS),
    "llm_llmprovider_check_provider": OPERATORS,
    **pages("llm_llmmodel", ALL, add=EDITORS, delete=EDITORS),
    "llm_llmmodel_set_prices": EDITORS,
    "llm_llmmodel_import_prices": EDITORS,
    **pages("llm_stepllmdefault", ALL, add=EDITORS, delete=EDITORS),
    # Superusers alone add and change servers.
    **pages("tenants_databaseserver", ALL),
    **pages("tenants_migrationbatch", ALL),
    "tenants_tenantschema_migrate": OPERATORS,
    "sign_ins": ADMINISTRATORS,
    "sign_ins_user": ADMINISTRATORS,
    **pages("tenants_basebackup", ALL),
    **pages("tenants_tenantgroup", ADMINISTRATORS, add=ADMINISTRATORS, delete=ADMINISTRATORS),
    # Creating a tenant, and the whole log, are about no tenant that one has.
    "tenants_tenant_add": OPERATORS,
    "audit_control_controlauditlog_export": ADMINISTRATORS,
}

# A tenant's site. For someone without a role for the tenant, none of it exists.
TENANT_SITE: Mapping[str, str] = {
    **pages("runs_run", ALL, add=EDITORS),
    "runs_run_approve": REVIEWERS,
    "runs_run_send_back": REVIEWERS,
    "runs_run_pause": EDITORS,
    "runs_run_resume": EDITORS,
    "runs_run_retry": EDITORS,
    "runs_run_retry_from": EDITORS,
    "runs_run_cancel": EDITORS,
    "runs_run_raise_budget": EDITORS,
    "runs_run_start_again": EDITORS,
    "runs_run_series": EDITORS,
    "runs_run_reviews": REVIEWERS,
    **{f"runs_run_{name}": ALL for name in ("live", "texts", "compare")},
    "costs": ALL,
    **pages("runs_step", ALL),
    **pages("runs_artifact", ALL),
    "runs_artifact_download": ALL,
    **pages("runs_runcost", ALL),
    **pages("prompts_prompt", ALL, add=EDITORS),
    "prompts_prompt_activate": EDITORS,
    "prompts_prompt_roll_back": EDITORS,
    "prompts_prompt_compare": ALL,
    "prompts_prompt_try_out": EDITORS,
    "prompts_prompt_copy": EDITORS,
    "prompts_prompt_copy_to_tenants": EDITORS,
    "prompts_prompt_copy_all_to_tenants": EDITORS,
    # Who sees the source and all targets; who may copy then depends on the targets (`tests/prompts/admin/test_copies`).
    "prompts_copy_report": ALL,
    **pages("runs_stepoverride", ALL, add=EDITORS, delete=EDITORS),
    **pages("audit_auditlog", ALL),
    "audit_auditlog_export": ALL,
}

# Views that are opened by a POST without a confirmation, because a GET offers them only in some states of the row.
POSTED = frozenset(
    {
        *("tenants_tenant_suspend", "tenants_tenant_resume", "tenants_temporaryaccess_close"),
        *(f"runs_run_{name}" for name in ("approve", "send_back", "pause", "resume", "retry", "retry_from", "cancel")),
        *("prompts_prompt_activate", "prompts_prompt_roll_back", "runs_run_raise_budget"),
        *(f"tenants_approval_{name}" for name in ("approve", "reject", "start", "withdraw")),
        *("tenants_operationrequest_recover", "tenants_tenant_undo"),
    }
)
