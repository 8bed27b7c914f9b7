"""The author and the note of the first version of each step's prompt, in new tenants.

A database that belongs to a tenant is left alone, as in 0004: its used versions cannot be changed.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

AUTHOR = "system"
NOTE = "Default prompt of seo-gen."


def describe(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alias = schema_editor.connection.alias
    if apps.get_model("tenant_identity", "TenantIdentity").objects.using(alias).exists():
        return
    apps.get_model("prompts", "Prompt").objects.using(alias).filter(version=1).update(author=AUTHOR, note=NOTE)


class Migration(migrations.Migration):
    dependencies = [("prompts", "0005_authors_and_notes"), ("tenant_identity", "0001_initial")]

    operations = [migrations.RunPython(describe, migrations.RunPython.noop)]
