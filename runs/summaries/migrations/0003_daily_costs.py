import django.db.models.deletion
from django.db import migrations, models

# Calls of earlier releases are in no daily cost yet. The sweep adds them, but visits only marked tenants.
MARK = "UPDATE public.tenants SET work_seen_at = now() WHERE work_seen_at IS NULL AND status <> 'deleted'"


def money() -> models.DecimalField:
    return models.DecimalField(max_digits=30, decimal_places=15, null=True)


class Migration(migrations.Migration):
    dependencies = [("run_summaries", "0002_visit_every_tenant")]

    operations = [
        migrations.CreateModel(
            name="DailyCost",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        *("tenant_id", "day", "step", "provider", "model"),
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("day", models.DateField()),
                ("step", models.TextField()),
                ("provider", models.TextField()),
                ("model", models.TextField()),
                ("calls", models.IntegerField()),
                ("unknown_calls", models.IntegerField()),
                ("unpriced_calls", models.IntegerField()),
                ("token_usage", models.JSONField()),
                ("cost_usd", money()),
                ("possible_usd", money()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "daily_costs",
                "default_permissions": (),
                "indexes": [models.Index(fields=["day"], name="daily_costs_day")],
            },
        ),
        migrations.RunSQL(MARK, reverse_sql=migrations.RunSQL.noop),
    ]
