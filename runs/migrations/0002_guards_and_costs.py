from django.db import migrations

TOUCH_RUN = """
CREATE FUNCTION public.touch_run() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

CREATE TRIGGER touch_run
BEFORE UPDATE ON public.runs
FOR EACH ROW EXECUTE FUNCTION public.touch_run();
"""

# The specification's view, from the prices that each step keeps instead of those that stand in the control database now.
# A step that used tokens at an unknown price adds nothing to the cost and one to `unpriced_steps`.
RUN_COSTS = """
CREATE VIEW public.run_costs AS
SELECT
    r.id AS run_id,
    SUM(
        (s.token_usage->>'input')::INTEGER * s.cost_per_1k_input_tokens / 1000 +
        (s.token_usage->>'output')::INTEGER * s.cost_per_1k_output_tokens / 1000
    ) AS total_llm_cost,
    SUM((s.token_usage->>'input')::INTEGER) AS total_input_tokens,
    SUM((s.token_usage->>'output')::INTEGER) AS total_output_tokens,
    COUNT(*) FILTER (
        WHERE (s.token_usage ? 'input' OR s.token_usage ? 'output')
          AND (
            (s.token_usage->>'input')::INTEGER * s.cost_per_1k_input_tokens +
            (s.token_usage->>'output')::INTEGER * s.cost_per_1k_output_tokens
          ) IS NULL
    ) AS unpriced_steps
FROM public.runs r
JOIN public.steps s ON r.id = s.run_id
GROUP BY r.id
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0001_initial")]

    operations = [
        migrations.RunSQL(
            TOUCH_RUN, reverse_sql="DROP TRIGGER touch_run ON public.runs; DROP FUNCTION public.touch_run();"
        ),
        migrations.RunSQL([(RUN_COSTS, None)], reverse_sql="DROP VIEW public.run_costs"),
    ]
