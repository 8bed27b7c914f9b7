from django.db import migrations

# `is_active` alone may change: activating another version moves the pointer.
GUARD = """
CREATE FUNCTION public.prevent_used_prompt_modification() RETURNS trigger
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

CREATE TRIGGER prevent_used_prompt_modification
BEFORE UPDATE OR DELETE ON public.prompts
FOR EACH ROW WHEN (OLD.used_at IS NOT NULL) EXECUTE FUNCTION public.prevent_used_prompt_modification();

ALTER TABLE public.prompts ENABLE ALWAYS TRIGGER prevent_used_prompt_modification;
"""

REVERSE = """
DROP TRIGGER prevent_used_prompt_modification ON public.prompts;
DROP FUNCTION public.prevent_used_prompt_modification();
"""


class Migration(migrations.Migration):
    dependencies = [("prompts", "0001_initial")]

    operations = [migrations.RunSQL([(GUARD, None)], reverse_sql=REVERSE)]
