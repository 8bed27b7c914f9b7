from django.db import migrations, models

# Every change of a call's status makes the control database's daily costs outdated, whoever makes it.
OUTDATE_CALL = """
CREATE FUNCTION public.outdate_call() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.is_summarized := false;
    RETURN NEW;
END;
$$;

CREATE TRIGGER outdate_call BEFORE UPDATE OF status ON public.calls
FOR EACH ROW EXECUTE FUNCTION public.outdate_call();
"""
REVERSE = "DROP TRIGGER outdate_call ON public.calls; DROP FUNCTION public.outdate_call();"


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_costs_so_far")]

    operations = [
        migrations.AddField("call", "is_summarized", models.BooleanField(db_default=False)),
        migrations.AddIndex("call", models.Index(fields=["started_at"], name="calls_started")),
        migrations.AddIndex(
            "call",
            models.Index(fields=["id"], condition=models.Q(is_summarized=False), name="calls_unsummarized"),
        ),
        migrations.RunSQL([(OUTDATE_CALL, None)], reverse_sql=[(REVERSE, None)]),
    ]
