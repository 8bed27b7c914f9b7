from django.db import migrations, models

import config.base.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Prompt",
            fields=[
                ("id", config.base.fields.SerialField(primary_key=True, serialize=False)),
                ("step", models.TextField(verbose_name="step")),
                ("version", models.IntegerField(verbose_name="version")),
                ("content", models.TextField(verbose_name="template")),
                ("variables", models.JSONField(blank=True, null=True, verbose_name="variables")),
                ("is_active", models.BooleanField(db_default=True, verbose_name="active")),
                ("used_at", models.DateTimeField(blank=True, null=True, verbose_name="first used")),
                (
                    "created_at",
                    models.DateTimeField(db_default=config.base.fields.SqlNow(), verbose_name="created"),
                ),
            ],
            options={
                "verbose_name": "prompt",
                "verbose_name_plural": "prompts",
                "db_table": "prompts",
                "ordering": ["step", "-version"],
                "constraints": [
                    models.UniqueConstraint(fields=("step", "version"), name="prompts_step_version_key"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_active", True)),
                        fields=("step",),
                        name="prompts_one_active_per_step",
                    ),
                ],
            },
        ),
    ]
