import django.db.models.deletion
from django.db import migrations, models

# What a step used, unit by unit, with the prices that it keeps. `input` and `output` are totals: what is left of them once
# the other units are taken out has their prices. A `long_` unit is the part of its unit that is beyond the long-context
# threshold. Reasoning without a price of its own costs what other output costs.
UNITS = """
        FROM (VALUES
            (
                'input',
                used.input - COALESCE(used.cached_read, 0) - COALESCE(used.cache_write_5m, 0)
                - COALESCE(used.cache_write_1h, 0) - used.long_input + used.long_cached_read
                + used.long_cache_write_5m + used.long_cache_write_1h,
                s.prices->>'input'
            ),
            (
                'output',
                used.output - COALESCE(used.reasoning, 0) - used.long_output + used.long_reasoning,
                s.prices->>'output'
            ),
            ('cached_read', used.cached_read - used.long_cached_read, s.prices->>'cached_read'),
            ('cache_write_5m', used.cache_write_5m - used.long_cache_write_5m, s.prices->>'cache_write_5m'),
            ('cache_write_1h', used.cache_write_1h - used.long_cache_write_1h, s.prices->>'cache_write_1h'),
            (
                'reasoning',
                used.reasoning - used.long_reasoning,
                COALESCE(s.prices->>'reasoning', s.prices->>'output')
            ),
            (
                'long_input',
                NULLIF(used.long_input, 0) - used.long_cached_read - used.long_cache_write_5m
                - used.long_cache_write_1h,
                s.prices->>'long_input'
            ),
            ('long_output', NULLIF(used.long_output, 0) - used.long_reasoning, s.prices->>'long_output'),
            ('long_cached_read', NULLIF(used.long_cached_read, 0), s.prices->>'long_cached_read'),
            ('long_cache_write_5m', NULLIF(used.long_cache_write_5m, 0), s.prices->>'long_cache_write_5m'),
            ('long_cache_write_1h', NULLIF(used.long_cache_write_1h, 0), s.prices->>'long_cache_write_1h'),
            (
                'long_reasoning',
                NULLIF(used.long_reasoning, 0),
                COALESCE(s.prices->>'long_reasoning', s.prices->>'long_output')
            )
        ) AS unit (name, tokens, price)
"""

# Each step's cost. A unit without a price adds nothing to it and is counted in `unpriced_tokens`.
#
# A step without `prices` was claimed by an earlier release: its two totals have the two prices in the columns, and its
# cost is unknown if one of them is. Most of the others have a price for all they used, and no long context; for these
# the sum is written out, because a subquery for each step takes ten times as long.
STEP_COSTS = f"""
CREATE VIEW public.step_costs AS
SELECT
    s.id AS step_id,
    s.run_id,
    CASE
        WHEN s.prices IS NULL THEN
            used.input * s.cost_per_1k_input_tokens * 0.001 + used.output * s.cost_per_1k_output_tokens * 0.001
        WHEN used.is_plain THEN (
            (
                used.input - COALESCE(used.cached_read, 0) - COALESCE(used.cache_write_5m, 0)
                - COALESCE(used.cache_write_1h, 0)
            ) * (s.prices->>'input')::NUMERIC
            + COALESCE(used.cached_read * (s.prices->>'cached_read')::NUMERIC, 0)
            + COALESCE(used.cache_write_5m * (s.prices->>'cache_write_5m')::NUMERIC, 0)
            + COALESCE(used.cache_write_1h * (s.prices->>'cache_write_1h')::NUMERIC, 0)
            + (used.output - COALESCE(used.reasoning, 0)) * (s.prices->>'output')::NUMERIC
            + COALESCE(used.reasoning * COALESCE(s.prices->>'reasoning', s.prices->>'output')::NUMERIC, 0)
        ) * 0.001
        ELSE (
            SELECT SUM(unit.tokens * unit.price::NUMERIC * 0.001)
            {UNITS}
        )
    END AS llm_cost,
    CASE
        WHEN s.prices IS NULL THEN
            CASE WHEN (s.token_usage ? 'input' OR s.token_usage ? 'output')
                      AND (used.input * s.cost_per_1k_input_tokens + used.output * s.cost_per_1k_output_tokens) IS NULL
                 THEN jsonb_build_object('input', COALESCE(used.input, 0), 'output', COALESCE(used.output, 0))
            END
        WHEN used.is_plain THEN NULL
        ELSE (
            SELECT jsonb_object_agg(unit.name, unit.tokens)
            {UNITS}
            WHERE unit.tokens > 0 AND unit.price IS NULL
        )
    END AS unpriced_tokens,
    s.token_usage
FROM public.steps s
CROSS JOIN LATERAL (
    SELECT
        (s.token_usage->>'input')::BIGINT AS input,
        (s.token_usage->>'output')::BIGINT AS output,
        (s.token_usage->>'cached_read')::BIGINT AS cached_read,
        (s.token_usage->>'cache_write_5m')::BIGINT AS cache_write_5m,
        (s.token_usage->>'cache_write_1h')::BIGINT AS cache_write_1h,
        (s.token_usage->>'reasoning')::BIGINT AS reasoning,
        COALESCE((s.token_usage->>'long_input')::BIGINT, 0) AS long_input,
        COALESCE((s.token_usage->>'long_output')::BIGINT, 0) AS long_output,
        COALESCE((s.token_usage->>'long_cached_read')::BIGINT, 0) AS long_cached_read,
        COALESCE((s.token_usage->>'long_cache_write_5m')::BIGINT, 0) AS long_cache_write_5m,
        COALESCE((s.token_usage->>'long_cache_write_1h')::BIGINT, 0) AS long_cache_write_1h,
        COALESCE((s.token_usage->>'long_reasoning')::BIGINT, 0) AS long_reasoning,
        s.token_usage ?& '{{input,output}}'
        AND s.prices ?& '{{input,output}}'
        AND NOT s.token_usage ? 'long_input'
        AND (s.prices ? 'cached_read' OR NOT s.token_usage ? 'cached_read')
        AND (s.prices ? 'cache_write_5m' OR NOT s.token_usage ? 'cache_write_5m')
        AND (s.prices ? 'cache_write_1h' OR NOT s.token_usage ? 'cache_write_1h') AS is_plain
) AS used
"""

# As in migration 0004, from the costs of the steps, with two columns more. The limit of an unknown call counts with the
# highest price that its input and output can have; the product never asks for a cache of one hour.
RUN_COSTS = """
CREATE OR REPLACE VIEW public.run_costs AS
SELECT
    r.id AS run_id,
    SUM(s.llm_cost) AS total_llm_cost,
    SUM((s.token_usage->>'input')::BIGINT)::BIGINT AS total_input_tokens,
    SUM((s.token_usage->>'output')::BIGINT)::BIGINT AS total_output_tokens,
    COUNT(s.unpriced_tokens) AS unpriced_steps,
    (SELECT COUNT(*) FROM public.calls c WHERE c.run_id = r.id AND c.status = 'unknown') AS unknown_calls,
    (
        SELECT SUM((c.max_input_tokens * bound.input + c.max_output_tokens * bound.output) * 0.001)
        FROM public.calls c
        JOIN public.steps priced ON priced.id = c.step_id
        CROSS JOIN LATERAL (
            SELECT COALESCE(c.max_input_tokens > (priced.prices->>'long_context_over')::BIGINT, false) AS is_long
        ) AS size
        CROSS JOIN LATERAL (
            SELECT
                CASE WHEN priced.prices IS NULL THEN priced.cost_per_1k_input_tokens
                     WHEN priced.prices ? 'input' THEN GREATEST(
                         (priced.prices->>'input')::NUMERIC,
                         (priced.prices->>'cache_write_5m')::NUMERIC,
                         CASE WHEN size.is_long THEN (priced.prices->>'long_input')::NUMERIC END,
                         CASE WHEN size.is_long THEN (priced.prices->>'long_cache_write_5m')::NUMERIC END
                     )
                END AS input,
                CASE WHEN priced.prices IS NULL THEN priced.cost_per_1k_output_tokens
                     WHEN priced.prices ? 'output' THEN GREATEST(
                         (priced.prices->>'output')::NUMERIC,
                         (priced.prices->>'reasoning')::NUMERIC,
                         CASE WHEN size.is_long THEN (priced.prices->>'long_output')::NUMERIC END,
                         CASE WHEN size.is_long THEN (priced.prices->>'long_reasoning')::NUMERIC END
                     )
                END AS output
        ) AS bound
        WHERE c.run_id = r.id AND c.status = 'unknown'
    ) AS unknown_cost_limit,
    CASE WHEN COUNT(s.unpriced_tokens) > 0 THEN (
        SELECT jsonb_object_agg(total.unit, total.tokens)
        FROM (
            SELECT unpriced.unit, SUM(unpriced.tokens::BIGINT) AS tokens
            FROM public.step_costs of_step
            CROSS JOIN LATERAL jsonb_each_text(of_step.unpriced_tokens) AS unpriced (unit, tokens)
            WHERE of_step.run_id = r.id
            GROUP BY unpriced.unit
        ) AS total
    ) END AS unpriced_tokens,
    jsonb_strip_nulls(jsonb_build_object(
        'cached_read', SUM((s.token_usage->>'cached_read')::BIGINT),
        'cache_write_5m', SUM((s.token_usage->>'cache_write_5m')::BIGINT),
        'cache_write_1h', SUM((s.token_usage->>'cache_write_1h')::BIGINT),
        'reasoning', SUM((s.token_usage->>'reasoning')::BIGINT),
        'long_input', SUM((s.token_usage->>'long_input')::BIGINT),
        'long_output', SUM((s.token_usage->>'long_output')::BIGINT)
    )) AS tokens_by_unit
FROM public.runs r
JOIN public.step_costs s ON r.id = s.run_id
GROUP BY r.id
"""
BEFORE = """
DROP VIEW public.run_costs;
DROP VIEW public.step_costs;
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


class Migration(migrations.Migration):
    dependencies = [("runs", "0005_touch_runs_in_order")]

    operations = [
        migrations.AddField(
            model_name="step",
            name="prices",
            field=models.JSONField(blank=True, null=True, verbose_name="prices"),
        ),
        migrations.CreateModel(
            name="StepCost",
            fields=[
                (
                    "step",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="cost",
                        serialize=False,
                        to="runs.step",
                        verbose_name="step",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="step_costs",
                        to="runs.run",
                        verbose_name="run",
                    ),
                ),
                (
                    "llm_cost",
                    models.DecimalField(decimal_places=15, max_digits=38, null=True, verbose_name="cost (USD)"),
                ),
                ("unpriced_tokens", models.JSONField(null=True, verbose_name="tokens without a price")),
                ("token_usage", models.JSONField(null=True, verbose_name="token usage")),
            ],
            options={
                "verbose_name": "cost of a step",
                "verbose_name_plural": "costs of steps",
                "db_table": "step_costs",
                "managed": False,
            },
        ),
        migrations.RunSQL([(STEP_COSTS, None), (RUN_COSTS, None)], reverse_sql=[(BEFORE, None)]),
    ]
