import django.db.models.deletion
from django.db import migrations, models

import config.base.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="LLMProvider",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False, verbose_name="id")),
                ("display_name", models.TextField(verbose_name="name")),
                (
                    "api_base_url",
                    models.TextField(
                        blank=True,
                        help_text=(
                            "URL of a compatible server, in the form that the provider's SDK expects:"
                            " https://host for claude and gemini, https://host/v1 for openai and"
                            " local. Leave empty to use the provider's own."
                        ),
                        null=True,
                        verbose_name="API base URL",
                    ),
                ),
                ("is_active", models.BooleanField(db_default=True, default=True, verbose_name="active")),
            ],
            options={
                "verbose_name": "LLM provider",
                "verbose_name_plural": "LLM providers",
                "db_table": "llm_providers",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="LLMModel",
            fields=[
                ("id", config.base.fields.SerialField(primary_key=True, serialize=False)),
                ("model_name", models.TextField(verbose_name="model")),
                (
                    "model_class",
                    models.TextField(choices=[("pro", "pro"), ("standard", "standard")], verbose_name="class"),
                ),
                (
                    "cost_per_1k_input_tokens",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        max_digits=10,
                        null=True,
                        verbose_name="USD per 1,000 input tokens",
                    ),
                ),
                (
                    "cost_per_1k_output_tokens",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        max_digits=10,
                        null=True,
                        verbose_name="USD per 1,000 output tokens",
                    ),
                ),
                ("is_active", models.BooleanField(db_default=True, default=True, verbose_name="active")),
                (
                    "max_output_tokens",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="output limit (tokens)"),
                ),
                (
                    "context_window",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="context window (tokens)"),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="models",
                        to="llm.llmprovider",
                        verbose_name="provider",
                    ),
                ),
            ],
            options={
                "verbose_name": "LLM model",
                "verbose_name_plural": "LLM models",
                "db_table": "llm_models",
                "ordering": ["provider_id", "model_class", "-id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "model_name"), name="llm_models_provider_model_name_key"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("model_class__in", ["pro", "standard"])), name="llm_models_class_is_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cost_per_1k_input_tokens__gte", 0), ("cost_per_1k_output_tokens__gte", 0)),
                        name="llm_models_prices_are_not_negative",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StepLLMDefault",
            fields=[
                ("step", models.TextField(primary_key=True, serialize=False, verbose_name="step")),
                (
                    "model_class",
                    models.TextField(choices=[("pro", "pro"), ("standard", "standard")], verbose_name="class"),
                ),
                ("position", models.IntegerField(db_default=0, default=0, verbose_name="position")),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="step_defaults",
                        to="llm.llmprovider",
                        verbose_name="provider",
                    ),
                ),
            ],
            options={
                "verbose_name": "step default",
                "verbose_name_plural": "step defaults",
                "db_table": "step_llm_defaults",
                "ordering": ["position", "step"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("model_class__in", ["pro", "standard"])),
                        name="step_llm_defaults_class_is_known",
                    )
                ],
            },
        ),
    ]
