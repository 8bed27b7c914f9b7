from django.db import migrations

# As in migration 0002, with two columns more: calls whose cost is unknown, and the most they can have cost.
RUN_COSTS = """
CREATE OR REPLACE VIEW public.run_costs AS
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
    ) AS unpriced_steps,
    (SELECT COUNT(*) FROM public.calls c WHERE c.run_id = r.id AND c.status = 'unknown') AS unknown_calls,
    (
        SELECT SUM(
            c.max_input_tokens * priced.cost_per_1k_input_tokens / 1000 +
            c.max_output_tokens * priced.cost_per_1k_output_tokens / 1000
        )
        FROM public.calls c
        JOIN public.steps priced ON priced.id = c.step_id
        WHERE c.run_id = r.id AND c.status = 'unknown'
    ) AS unknown_cost_limit
FROM public.runs r
JOIN public.steps s ON r.id = s.run_id
GROUP BY r.id
"""
BEFORE = """
DROP VIEW public.run_costs;
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
    dependencies = [("runs", "0003_calls_and_control")]

    operations = [migrations.RunSQL([(RUN_COSTS, None)], reverse_sql=[(BEFORE, None)])]
