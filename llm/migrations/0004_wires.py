from django.db import migrations, models

# What the ids of earlier releases meant: (wire, key variable). Any other provider had no client, and could not be called.
KNOWN = {
    "claude": ("anthropic", "ANTHROPIC_API_KEY"),
    "gemini": ("gemini", "GEMINI_API_KEY"),
    "openai": ("openai", "OPENAI_API_KEY"),
}


def fill(apps, schema_editor):
    providers = apps.get_model("llm", "LLMProvider").objects.using(schema_editor.connection.alias)
    for provider_id, (wire, key_variable) in KNOWN.items():
        providers.filter(pk=provider_id).update(wire=wire, key_variable=key_variable)


class Migration(migrations.Migration):
    dependencies = [
        ("llm", "0003_prices"),
    ]

    operations = [
        migrations.AddField(
            model_name="llmprovider",
            name="wire",
            field=models.TextField(
                choices=[("anthropic", "Anthropic"), ("gemini", "Gemini"), ("openai", "OpenAI or compatible")],
                db_default="openai",
                default="openai",
                verbose_name="wire",
            ),
        ),
        migrations.AddField(
            model_name="llmprovider",
            name="key_variable",
            field=models.TextField(blank=True, db_default="", default="", verbose_name="key variable"),
        ),
        migrations.AddConstraint(
            model_name="llmprovider",
            constraint=models.CheckConstraint(
                condition=models.Q(("wire__in", ["anthropic", "gemini", "openai"])), name="llm_providers_wire_is_known"
            ),
        ),
        migrations.AddField(
            model_name="stepllmdefault",
            name="key_at_workers",
            field=models.BooleanField(db_default=False, default=False, verbose_name="only workers have the key"),
        ),
        migrations.AlterField(
            model_name="llmprovider",
            name="api_base_url",
            field=models.TextField(
                blank=True,
                help_text=(
                    "URL of the server, in the form that the wire's SDK expects: https://host for Anthropic and Gemini,"
                    " https://host/v1 for OpenAI and compatible servers. Leave empty to use the vendor's own."
                ),
                null=True,
                verbose_name="API base URL",
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
