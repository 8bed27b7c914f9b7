from django.db import migrations

# Earlier calls get what the triggers of 0007_budgets give to new ones. They are updates of `status`, which these are not,
# so the months are added up here.
PRICE_PAST_CALLS = """
UPDATE public.calls AS call
   SET bound_usd = public.call_bound(
           call.max_input_tokens, call.max_output_tokens, step.prices,
           step.cost_per_1k_input_tokens, step.cost_per_1k_output_tokens),
       cost_usd = CASE WHEN call.status <> 'settled' THEN NULL
                       WHEN call.token_usage = '{}'::jsonb THEN 0
                       ELSE found.cost END,
       is_unpriced = call.status = 'settled' AND call.token_usage <> '{}'::jsonb AND found.is_unpriced
  FROM public.steps AS step, public.calls AS same
 CROSS JOIN LATERAL (SELECT * FROM public.steps WHERE id = same.step_id) AS its
 CROSS JOIN LATERAL public.call_cost(
       coalesce(same.token_usage, '{}'), its.prices, its.cost_per_1k_input_tokens, its.cost_per_1k_output_tokens
 ) AS found
 WHERE step.id = call.step_id AND same.id = call.id
"""
COUNT_PAST_CALLS = """
INSERT INTO public.spending (month, reserved_usd, possible_usd, spent_usd, unpriced_calls)
SELECT date_trunc('month', call.started_at AT TIME ZONE 'UTC')::date,
       coalesce(sum(call.bound_usd) FILTER (WHERE call.status = 'open'), 0),
       sum(public.possible_usd(call)),
       coalesce(sum(call.cost_usd), 0),
       count(*) FILTER (WHERE public.lacks_price(call))
  FROM public.calls AS call
 GROUP BY 1
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0007_budgets")]

    operations = [
        migrations.RunSQL([(PRICE_PAST_CALLS, None)], reverse_sql=migrations.RunSQL.noop),
        migrations.RunSQL([(COUNT_PAST_CALLS, None)], reverse_sql="DELETE FROM public.spending"),
    ]
