from django.db import migrations

# Runs of earlier releases have no summary yet. The sweep makes them, but visits only marked tenants.
MARK = "UPDATE public.tenants SET work_seen_at = now() WHERE work_seen_at IS NULL AND status <> 'deleted'"


class Migration(migrations.Migration):
    dependencies = [("run_summaries", "0001_initial")]

    operations = [migrations.RunSQL(MARK, reverse_sql=migrations.RunSQL.noop)]
