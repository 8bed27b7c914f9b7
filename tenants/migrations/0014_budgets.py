from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0013_batches_of_prompts")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="monthly_budget_usd",
            field=models.DecimalField(
                blank=True, decimal_places=6, max_digits=15, null=True, verbose_name="monthly budget (USD)"
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="run_budget_usd",
            field=models.DecimalField(
                blank=True, decimal_places=6, max_digits=15, null=True, verbose_name="budget per run (USD)"
            ),
        ),
    ]
