from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0012_steps_at_a_time"),
    ]

    operations = [
        migrations.AddField(
            model_name="migrationbatch",
            name="kind",
            field=models.TextField(
                choices=[("migrate", "migration"), ("prompt_copy", "copy of prompts")],
                db_default="migrate",
                verbose_name="kind",
            ),
        ),
        migrations.AddField(
            model_name="migrationbatch",
            name="undoes",
            field=models.UUIDField(null=True, verbose_name="undoes"),
        ),
        migrations.AddField(
            model_name="batchtenant",
            name="changes",
            field=models.JSONField(null=True, verbose_name="changes"),
        ),
    ]
