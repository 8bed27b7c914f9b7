from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_daily_costs")]

    operations = [
        migrations.CreateModel(
            name="StepOverride",
            fields=[
                ("step", models.TextField(primary_key=True, serialize=False, verbose_name="step")),
                ("llm_provider", models.TextField(blank=True, null=True, verbose_name="provider")),
                (
                    "model_class",
                    models.TextField(
                        blank=True,
                        choices=[("pro", "pro"), ("standard", "standard")],
                        null=True,
                        verbose_name="class",
                    ),
                ),
                ("llm_model", models.TextField(blank=True, null=True, verbose_name="model")),
                (
                    "output_limit",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="output limit (tokens)"),
                ),
            ],
            options={
                "verbose_name": "step override",
                "verbose_name_plural": "step overrides",
                "db_table": "step_overrides",
                "ordering": ["step"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("model_class__in", ["pro", "standard"])), name="step_overrides_class_check"
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="step",
            name="output_limit",
            field=models.IntegerField(blank=True, null=True, verbose_name="own output limit (tokens)"),
        ),
    ]
