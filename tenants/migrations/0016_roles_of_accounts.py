"""Give each staff account the greatest role of which it had all permissions; Django's own permissions no longer count.

The lists are those of the release that introduced roles, without the permissions that were new in it.
"""

from typing import Any

from django.db import migrations

SEEN = (
    *("runs.run", "runs.step", "runs.artifact", "runs.runcost", "runs.stepoverride", "prompts.prompt"),
    *("audit.auditlog", "audit_control.controlauditlog"),
    *("audit_control.auditarchive", "audit_control.archivedauditlog"),
    *("tenants.tenant", "tenants.tenantschema", "tenants.backup", "tenants.restore", "tenants.erasure"),
    *("tenants.databaseserver", "tenants.migrationbatch", "tenants.basebackup"),
    *("llm.llmprovider", "llm.llmmodel", "llm.stepllmdefault"),
)


def _of(verbs: str, *models: str) -> frozenset[str]:
    pairs = [model.split(".") for model in models]
    return frozenset(f"{app}.{verb}_{name}" for app, name in pairs for verb in verbs.split())


VIEWER = _of("view", *SEEN)
EDITOR = (
    VIEWER
    | _of("add change", "runs.run", "prompts.prompt")
    | _of("add change delete", "runs.stepoverride", "llm.stepllmdefault", "llm.llmmodel")
)
OPERATOR = VIEWER | _of("add change", "tenants.tenant")
ADMINISTRATOR = (
    EDITOR | OPERATOR | _of("delete", "tenants.tenant") | _of("add change delete view", "auth.user", "llm.llmprovider")
)
# From the greatest: an account gets the first one that fits. No permission was about reviewing alone.
ROLES = (("administrator", ADMINISTRATOR), ("operator", OPERATOR), ("editor", EDITOR), ("viewer", VIEWER))


def give_roles(apps: Any, schema_editor: Any) -> None:
    alias = schema_editor.connection.alias
    accounts = apps.get_model("auth", "User").objects.using(alias).filter(is_staff=True, is_superuser=False)
    assignments = apps.get_model("tenants", "RoleAssignment").objects.using(alias)
    for account in accounts.order_by("pk"):
        held = _permissions_of(apps, alias, account.pk)
        role = next((name for name, needed in ROLES if needed <= held), None)
        if role is not None:
            assignments.create(user_id=account.pk, role=role, scope="all")


def _permissions_of(apps: Any, alias: str, user_id: int) -> set[str]:
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    held = permissions.filter(user=user_id).union(permissions.filter(group__user=user_id), all=False)
    ids = list(held.values_list("pk", flat=True))
    names = permissions.filter(pk__in=ids).values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in names}


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0015_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(give_roles, migrations.RunPython.noop)]
