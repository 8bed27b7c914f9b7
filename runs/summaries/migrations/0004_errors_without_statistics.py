from django.db import migrations

# PostgreSQL's statistics copy values: an error may quote a tenant's data, and must not outlast its erasure. Setting the
# type drops what was gathered before.
WITHOUT_STATISTICS = """
ALTER TABLE public.run_summaries ALTER COLUMN error SET STATISTICS 0, ALTER COLUMN error TYPE text;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("run_summaries", "0003_daily_costs"),
    ]

    operations = [
        migrations.RunSQL(WITHOUT_STATISTICS, migrations.RunSQL.noop),
    ]
