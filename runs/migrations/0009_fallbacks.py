from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("runs", "0008_step_overrides")]

    operations = [
        migrations.AddField(
            model_name="step",
            name="fallbacks",
            field=models.JSONField(blank=True, null=True, verbose_name="fallbacks"),
        ),
        migrations.AddField(
            model_name="step",
            name="rerouted",
            field=models.JSONField(blank=True, null=True, verbose_name="rerouted"),
        ),
    ]
