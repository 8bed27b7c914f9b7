from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("llm", "0004_wires")]

    operations = [
        migrations.AddField(
            model_name="stepllmdefault",
            name="fallbacks",
            field=models.JSONField(blank=True, db_default=[], default=list, verbose_name="fallbacks"),
        ),
    ]
