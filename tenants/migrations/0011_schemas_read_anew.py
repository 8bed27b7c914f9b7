"""Discard the stored schemas: descriptions now name each object's schema.

Whatever is needed again is computed at that time.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def forget(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alias = schema_editor.connection.alias
    # The row stays: it says which template is in which version.
    apps.get_model("tenants", "SchemaReference").objects.using(alias).update(fingerprint="", catalog={})
    apps.get_model("tenants", "Tenant").objects.using(alias).update(schema_fingerprint="", schema_stamp="")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_files_read_and_ledger")]

    operations = [migrations.RunPython(forget, migrations.RunPython.noop, elidable=True)]
