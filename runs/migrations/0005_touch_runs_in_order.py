from django.db import migrations

# Differs from the function of migration 0002 in three respects:
# - Every change makes the control database's summary outdated, whoever makes it. Only an update of `is_summarized`
#   alone says that the summary is up to date, and does not count as a change.
# - The time is the clock's, not that of the transaction's start: a transaction that waited for the row's lock would
#   otherwise set a time before that of the change it waited for.
# - The time is always later than the one before, so that of two states of a run the newer one is known.
TOUCH_RUN = """
CREATE OR REPLACE FUNCTION public.touch_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    OLD.is_summarized := NEW.is_summarized;
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.is_summarized := false;
        NEW.updated_at := greatest(clock_timestamp(), OLD.updated_at + interval '1 microsecond');
    END IF;
    RETURN NEW;
END;
$$;
"""
BEFORE = """
CREATE OR REPLACE FUNCTION public.touch_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0004_costs_of_calls")]

    operations = [migrations.RunSQL(TOUCH_RUN, reverse_sql=BEFORE)]
