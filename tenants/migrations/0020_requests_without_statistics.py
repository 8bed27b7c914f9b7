from django.db import migrations

# As in 0004: the errors of requests may quote a tenant's data. Setting the type drops what was gathered before.
WITHOUT_STATISTICS = """
ALTER TABLE public.operation_requests ALTER COLUMN error SET STATISTICS 0, ALTER COLUMN error TYPE text;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0019_copies_of_prompts_requested"),
    ]

    operations = [
        migrations.RunSQL(WITHOUT_STATISTICS, migrations.RunSQL.noop),
    ]
