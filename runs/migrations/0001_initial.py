import django.contrib.postgres.functions
import django.db.models.deletion
from django.db import migrations, models

import config.base.fields

NOW = config.base.fields.SqlNow()


class Migration(migrations.Migration):
    """Columns in the order of the specification, ours after them."""

    initial = True

    dependencies = [("prompts", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Run",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_default=django.contrib.postgres.functions.RandomUUID(),
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("pending", "pending"),
                            ("running", "running"),
                            ("paused", "paused"),
                            ("completed", "completed"),
                            ("failed", "failed"),
                        ],
                        verbose_name="status",
                    ),
                ),
                ("current_step", models.TextField(blank=True, null=True, verbose_name="current step")),
                ("config", models.JSONField(blank=True, null=True, verbose_name="configuration")),
                ("created_at", models.DateTimeField(db_default=NOW, verbose_name="created")),
                ("updated_at", models.DateTimeField(db_default=NOW, verbose_name="updated")),
            ],
            options={
                "verbose_name": "run",
                "verbose_name_plural": "runs",
                "db_table": "runs",
                "ordering": ["-created_at"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["pending", "running", "paused", "completed", "failed"])),
                        name="runs_status_check",
                    )
                ],
                "indexes": [
                    models.Index(models.OrderBy(models.F("created_at"), descending=True), name="runs_newest"),
                    models.Index(
                        condition=models.Q(("status__in", ("pending", "running"))),
                        fields=["created_at"],
                        name="runs_working",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Step",
            fields=[
                ("id", config.base.fields.SerialField(primary_key=True, serialize=False)),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="steps",
                        to="runs.run",
                        verbose_name="run",
                    ),
                ),
                ("step", models.TextField(verbose_name="step")),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("pending", "pending"),
                            ("running", "running"),
                            ("completed", "completed"),
                            ("failed", "failed"),
                        ],
                        verbose_name="status",
                    ),
                ),
                ("llm_model", models.TextField(blank=True, null=True, verbose_name="model")),
                ("token_usage", models.JSONField(blank=True, null=True, verbose_name="token usage")),
                ("error_message", models.TextField(blank=True, null=True, verbose_name="error")),
                ("retry_count", models.IntegerField(db_default=0, verbose_name="retries")),
                ("started_at", models.DateTimeField(blank=True, db_default=NOW, null=True, verbose_name="started")),
                ("completed_at", models.DateTimeField(blank=True, null=True, verbose_name="completed")),
                ("position", models.IntegerField(db_default=0, verbose_name="position")),
                ("llm_provider", models.TextField(blank=True, null=True, verbose_name="provider")),
                (
                    "cost_per_1k_input_tokens",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        max_digits=10,
                        null=True,
                        verbose_name="input price per 1k tokens",
                    ),
                ),
                (
                    "cost_per_1k_output_tokens",
                    models.DecimalField(
                        blank=True,
                        decimal_places=6,
                        max_digits=10,
                        null=True,
                        verbose_name="output price per 1k tokens",
                    ),
                ),
                (
                    "prompt",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="prompts.prompt",
                        verbose_name="prompt",
                    ),
                ),
                ("output_path", models.TextField(blank=True, null=True, verbose_name="output")),
                ("output_digest", models.TextField(blank=True, null=True, verbose_name="output's sha256")),
                ("summary", models.TextField(blank=True, null=True, verbose_name="summary")),
                ("metrics", models.JSONField(blank=True, null=True, verbose_name="metrics")),
                ("lease_token", models.IntegerField(db_default=0)),
                ("lease_expires_at", models.DateTimeField(blank=True, null=True, verbose_name="lease until")),
                ("lease_owner", models.TextField(blank=True, null=True, verbose_name="worker")),
                ("not_before", models.DateTimeField(blank=True, null=True, verbose_name="not before")),
                ("wake_after", models.DateTimeField(blank=True, null=True)),
                ("wake_count", models.IntegerField(db_default=0)),
            ],
            options={
                "verbose_name": "step",
                "verbose_name_plural": "steps",
                "db_table": "steps",
                "ordering": ["run", "position"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["pending", "running", "completed", "failed"])),
                        name="steps_status_check",
                    ),
                    models.UniqueConstraint(fields=("run", "step"), name="steps_run_id_step_key"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Artifact",
            fields=[
                ("id", config.base.fields.SerialField(primary_key=True, serialize=False)),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="artifacts",
                        to="runs.run",
                        verbose_name="run",
                    ),
                ),
                ("step", models.TextField(verbose_name="step")),
                ("file_type", models.TextField(verbose_name="type")),
                ("file_path", models.TextField(verbose_name="path")),
                ("digest", models.TextField(blank=True, null=True, verbose_name="SHA-256")),
                ("metadata", models.JSONField(blank=True, null=True, verbose_name="metadata")),
                ("created_at", models.DateTimeField(db_default=NOW, verbose_name="created")),
            ],
            options={
                "verbose_name": "artifact",
                "verbose_name_plural": "artifacts",
                "db_table": "artifacts",
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(fields=("run", "file_path"), name="artifacts_run_id_file_path_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="RunCost",
            fields=[
                (
                    "run",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="cost",
                        serialize=False,
                        to="runs.run",
                        verbose_name="run",
                    ),
                ),
                (
                    "total_llm_cost",
                    models.DecimalField(decimal_places=9, max_digits=20, null=True, verbose_name="cost (USD)"),
                ),
                ("total_input_tokens", models.BigIntegerField(null=True, verbose_name="input tokens")),
                ("total_output_tokens", models.BigIntegerField(null=True, verbose_name="output tokens")),
                ("unpriced_steps", models.BigIntegerField(verbose_name="steps without a price")),
            ],
            options={
                "verbose_name": "cost",
                "verbose_name_plural": "costs",
                "db_table": "run_costs",
                "managed": False,
            },
        ),
    ]
