from django.db import migrations, models

# As in migration 0002, with author and note: who wrote a used version, and why, changes as little as its text.
GUARD = """
CREATE OR REPLACE FUNCTION public.prevent_used_prompt_modification() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'prompt % (% v%) has been used and cannot be deleted', OLD.id, OLD.step, OLD.version
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.id, NEW.step, NEW.version, NEW.content, NEW.variables, NEW.used_at, NEW.created_at, NEW.author,
        NEW.note)
       IS DISTINCT FROM
       (OLD.id, OLD.step, OLD.version, OLD.content, OLD.variables, OLD.used_at, OLD.created_at, OLD.author,
        OLD.note) THEN
        RAISE EXCEPTION 'prompt % (% v%) has been used and cannot be changed', OLD.id, OLD.step, OLD.version
            USING ERRCODE = 'restrict_violation', HINT = 'Create a new version instead.';
    END IF;
    RETURN NEW;
END;
$$;
"""
BEFORE = """
CREATE OR REPLACE FUNCTION public.prevent_used_prompt_modification() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'prompt % (% v%) has been used and cannot be deleted', OLD.id, OLD.step, OLD.version
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.id, NEW.step, NEW.version, NEW.content, NEW.variables, NEW.used_at, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.step, OLD.version, OLD.content, OLD.variables, OLD.used_at, OLD.created_at) THEN
        RAISE EXCEPTION 'prompt % (% v%) has been used and cannot be changed', OLD.id, OLD.step, OLD.version
            USING ERRCODE = 'restrict_violation', HINT = 'Create a new version instead.';
    END IF;
    RETURN NEW;
END;
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("prompts", "0004_review_comments")]

    operations = [
        migrations.AddField("prompt", "author", models.TextField(blank=True, null=True, verbose_name="author")),
        migrations.AddField("prompt", "note", models.TextField(blank=True, null=True, verbose_name="note")),
        migrations.AddField(
            "prompt", "replaced_at", models.DateTimeField(blank=True, null=True, verbose_name="replaced")
        ),
        migrations.RunSQL([(GUARD, None)], reverse_sql=[(BEFORE, None)]),
    ]
