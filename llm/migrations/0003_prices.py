import django.db.models.deletion
from django.db import migrations, models

import config.base.fields
from llm.prices.history_sql import HISTORY_SQL, REVERSE_SQL


class Migration(migrations.Migration):
    dependencies = [("llm", "0002_limits_and_reviews")]

    operations = [
        migrations.CreateModel(
            name="LLMPrice",
            fields=[
                ("id", config.base.fields.SerialField(primary_key=True, serialize=False)),
                ("valid_from", models.DateField(verbose_name="valid from")),
                ("prices", models.JSONField(verbose_name="prices")),
                (
                    "source",
                    models.TextField(
                        choices=[("list", "price list"), ("hand", "by hand"), ("earlier", "earlier release")],
                        verbose_name="source",
                    ),
                ),
                ("made_by", models.TextField(verbose_name="set by")),
                ("note", models.TextField(blank=True, db_default="", default="", verbose_name="note")),
                ("created_at", models.DateTimeField(db_default=config.base.fields.SqlNow(), verbose_name="created")),
                (
                    "model",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="prices",
                        to="llm.llmmodel",
                        verbose_name="model",
                    ),
                ),
            ],
            options={
                "verbose_name": "price",
                "verbose_name_plural": "prices",
                "db_table": "llm_prices",
                "ordering": ["model", "-valid_from", "-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("source__in", ["list", "hand", "earlier"])),
                        name="llm_prices_source_is_known",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="llmmodel",
            name="retires_on",
            field=models.DateField(blank=True, null=True, verbose_name="retirement date"),
        ),
        migrations.AddField(
            model_name="llmmodel",
            name="is_deprecated",
            field=models.BooleanField(db_default=False, default=False, verbose_name="being retired"),
        ),
        migrations.RunSQL([(HISTORY_SQL, None)], reverse_sql=[(REVERSE_SQL, None)]),
    ]
