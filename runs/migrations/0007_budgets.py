from django.db import migrations, models

# What one call cost, by the same rules as the view `step_costs`: a call is in the long-context tier as a whole. Units
# without a price add nothing, and make it unpriced. `prices` is NULL for steps of earlier releases.
CALL_COST = """
CREATE FUNCTION public.call_cost(
    usage jsonb, prices jsonb, input_price numeric, output_price numeric, OUT cost numeric, OUT is_unpriced boolean
)
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
SELECT CASE WHEN prices IS NOT NULL THEN priced.cost
            ELSE priced.input * input_price * 0.001 + priced.output * output_price * 0.001
       END,
       CASE WHEN prices IS NOT NULL THEN priced.is_unpriced
            ELSE priced.input + priced.output > 0 AND input_price + output_price IS NULL
       END
  FROM (
    SELECT sum(unit.tokens * unit.price * 0.001) AS cost,
           coalesce(bool_or(unit.tokens > 0 AND unit.price IS NULL), false) AS is_unpriced,
           max(used.input) AS input, max(used.output) AS output
      FROM (
        SELECT coalesce((usage->>'input')::bigint, 0) AS input, coalesce((usage->>'output')::bigint, 0) AS output,
               coalesce((usage->>'cached_read')::bigint, 0) AS cached_read,
               coalesce((usage->>'cache_write_5m')::bigint, 0) AS cache_write_5m,
               coalesce((usage->>'cache_write_1h')::bigint, 0) AS cache_write_1h,
               coalesce((usage->>'reasoning')::bigint, 0) AS reasoning,
               CASE WHEN usage ? 'long_input' THEN 'long_' ELSE '' END AS tier
      ) AS used
      CROSS JOIN LATERAL (VALUES
        (used.input - used.cached_read - used.cache_write_5m - used.cache_write_1h, (prices->>(tier || 'input'))::numeric),
        (used.output - used.reasoning, (prices->>(tier || 'output'))::numeric),
        (used.cached_read, (prices->>(tier || 'cached_read'))::numeric),
        (used.cache_write_5m, (prices->>(tier || 'cache_write_5m'))::numeric),
        (used.cache_write_1h, (prices->>(tier || 'cache_write_1h'))::numeric),
        (used.reasoning, coalesce((prices->>(tier || 'reasoning'))::numeric, (prices->>(tier || 'output'))::numeric))
      ) AS unit (tokens, price)
  ) AS priced
$$;
"""

# The most that a call can cost: all of its input and output at the highest price that they can have, as in `run_costs`.
CALL_BOUND = """
CREATE FUNCTION public.call_bound(
    max_input bigint, max_output bigint, prices jsonb, input_price numeric, output_price numeric
) RETURNS numeric
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
SELECT (max_input * CASE
            WHEN prices IS NULL THEN input_price
            WHEN prices ? 'input' THEN greatest(
                (prices->>'input')::numeric, (prices->>'cache_write_5m')::numeric,
                CASE WHEN is_long THEN (prices->>'long_input')::numeric END,
                CASE WHEN is_long THEN (prices->>'long_cache_write_5m')::numeric END)
        END
      + max_output * CASE
            WHEN prices IS NULL THEN output_price
            WHEN prices ? 'output' THEN greatest(
                (prices->>'output')::numeric, (prices->>'reasoning')::numeric,
                CASE WHEN is_long THEN (prices->>'long_output')::numeric END,
                CASE WHEN is_long THEN (prices->>'long_reasoning')::numeric END)
        END) * 0.001
  FROM (SELECT coalesce(max_input > (prices->>'long_context_over')::bigint, false) AS is_long) AS size
$$;
"""

# By the prices that the call's step keeps. The bound stays as it was when the call began, so that exactly that is taken
# back when it ends. A call that the provider billed nothing for costs nothing, whether its price is known or not.
PRICE_CALL = """
CREATE FUNCTION public.price_call() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    step public.steps;
BEGIN
    SELECT * INTO step FROM public.steps AS one WHERE one.id = NEW.step_id;
    IF TG_OP = 'INSERT' THEN
        NEW.bound_usd := public.call_bound(
            NEW.max_input_tokens, NEW.max_output_tokens, step.prices,
            step.cost_per_1k_input_tokens, step.cost_per_1k_output_tokens);
    END IF;
    IF NEW.status = 'settled' AND NEW.token_usage = '{}'::jsonb THEN
        NEW.cost_usd := 0;
    ELSIF NEW.status = 'settled' THEN
        SELECT found.cost, found.is_unpriced INTO NEW.cost_usd, NEW.is_unpriced
          FROM public.call_cost(
              NEW.token_usage, step.prices, step.cost_per_1k_input_tokens, step.cost_per_1k_output_tokens) AS found;
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER price_call BEFORE INSERT OR UPDATE OF status ON public.calls
FOR EACH ROW EXECUTE FUNCTION public.price_call();
"""

# In the transaction of the change itself, so no code can forget it, and a killed process leaves nothing behind.
# A call stays in the month in which it began. What it may have cost beyond its known cost is possibly spent: all of it if
# no one saw its end, the rest of its bound if a unit has no price.
COUNT_CALL = """
CREATE FUNCTION public.possible_usd(call public.calls) RETURNS numeric
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
SELECT coalesce(CASE
           WHEN call.status = 'unknown' THEN call.bound_usd
           WHEN call.status = 'settled' AND call.is_unpriced
               THEN greatest(call.bound_usd - coalesce(call.cost_usd, 0), 0)
       END, 0)
$$;

CREATE FUNCTION public.lacks_price(call public.calls) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
SELECT coalesce(call.is_unpriced OR call.bound_usd IS NULL AND call.cost_usd IS NULL, false)
$$;

CREATE FUNCTION public.count_call() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    before public.calls;
    after public.calls := NEW;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before := OLD;
    END IF;
    INSERT INTO public.spending AS present (month, reserved_usd, possible_usd, spent_usd, unpriced_calls)
    VALUES (
        date_trunc('month', NEW.started_at AT TIME ZONE 'UTC')::date,
        CASE WHEN NEW.status = 'open' THEN coalesce(NEW.bound_usd, 0) ELSE 0 END
            - CASE WHEN before.status = 'open' THEN coalesce(before.bound_usd, 0) ELSE 0 END,
        public.possible_usd(after) - public.possible_usd(before),
        coalesce(NEW.cost_usd, 0) - coalesce(before.cost_usd, 0),
        public.lacks_price(after)::integer - (before.id IS NOT NULL AND public.lacks_price(before))::integer
    )
    ON CONFLICT (month) DO UPDATE
       SET reserved_usd = present.reserved_usd + excluded.reserved_usd,
           possible_usd = present.possible_usd + excluded.possible_usd,
           spent_usd = present.spent_usd + excluded.spent_usd,
           unpriced_calls = present.unpriced_calls + excluded.unpriced_calls;
    RETURN NULL;
END;
$$;

CREATE TRIGGER count_call AFTER INSERT OR UPDATE OF status ON public.calls
FOR EACH ROW EXECUTE FUNCTION public.count_call();
"""
REVERSE = """
DROP TRIGGER count_call ON public.calls;
DROP TRIGGER price_call ON public.calls;
DROP FUNCTION public.count_call();
DROP FUNCTION public.price_call();
DROP FUNCTION public.lacks_price(public.calls);
DROP FUNCTION public.possible_usd(public.calls);
DROP FUNCTION public.call_bound(bigint, bigint, jsonb, numeric, numeric);
DROP FUNCTION public.call_cost(jsonb, jsonb, numeric, numeric);
"""


def money(name: str, **options: object) -> models.DecimalField:
    return models.DecimalField(max_digits=30, decimal_places=15, verbose_name=name, **options)


class Migration(migrations.Migration):
    dependencies = [("runs", "0006_prices_by_unit")]

    operations = [
        migrations.CreateModel(
            name="Spending",
            fields=[
                ("month", models.DateField(primary_key=True, serialize=False, verbose_name="month")),
                ("reserved_usd", money("reserved (USD)", db_default=0)),
                ("possible_usd", money("possibly spent (USD)", db_default=0)),
                ("spent_usd", money("spent (USD)", db_default=0)),
                ("unpriced_calls", models.IntegerField(db_default=0, verbose_name="calls without a price")),
                ("warned_at", models.DateTimeField(blank=True, null=True, verbose_name="warned")),
            ],
            options={
                "verbose_name": "spending",
                "verbose_name_plural": "spending",
                "db_table": "spending",
                "ordering": ["-month"],
            },
        ),
        migrations.AddField("call", "bound_usd", money("upper bound (USD)", null=True, blank=True)),
        migrations.AddField("call", "cost_usd", money("cost (USD)", null=True, blank=True)),
        migrations.AddField("call", "is_unpriced", models.BooleanField(db_default=False)),
        migrations.AlterField(
            model_name="run",
            name="pause_cause",
            field=models.TextField(
                blank=True,
                choices=[
                    ("person", "paused by a person"),
                    ("hold", "created on hold"),
                    ("review", "waiting for a review"),
                    ("budget", "budget reached"),
                ],
                null=True,
                verbose_name="pause cause",
            ),
        ),
        migrations.RemoveConstraint(model_name="run", name="runs_pause_cause_check"),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=models.Q(("pause_cause__in", ["person", "hold", "review", "budget"])),
                name="runs_pause_cause_check",
            ),
        ),
        migrations.RunSQL([(CALL_COST + CALL_BOUND + PRICE_CALL + COUNT_CALL, None)], reverse_sql=[(REVERSE, None)]),
    ]
