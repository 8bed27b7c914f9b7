"""SQL that keeps the history of prices. The owner runs it once, from migration 0003, so it must not change.

A price that was in effect stays readable until its model is deleted: rows are only added, and a change of a model's
price columns by plain SQL adds one as well.
"""

from typing import LiteralString

HISTORY_SQL: LiteralString = """
ALTER TABLE public.llm_prices ADD CONSTRAINT llm_prices_model_id_fkey
    FOREIGN KEY (model_id) REFERENCES public.llm_models (id) ON DELETE CASCADE;

CREATE INDEX llm_prices_in_force ON public.llm_prices (model_id, valid_from DESC, id DESC);

CREATE FUNCTION public.keep_llm_prices() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- The rows of a model that was deleted go with it.
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT 1 FROM public.llm_models WHERE id = OLD.model_id) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'llm_prices table does not allow %', TG_OP;
END;
$function$;

CREATE TRIGGER keep_llm_prices
BEFORE UPDATE OR DELETE ON public.llm_prices
FOR EACH ROW EXECUTE FUNCTION public.keep_llm_prices();

CREATE TRIGGER keep_llm_prices_truncation
BEFORE TRUNCATE ON public.llm_prices
FOR EACH STATEMENT EXECUTE FUNCTION public.keep_llm_prices();

-- ALWAYS: they fire under session_replication_role = replica as well.
ALTER TABLE public.llm_prices ENABLE ALWAYS TRIGGER keep_llm_prices;
ALTER TABLE public.llm_prices ENABLE ALWAYS TRIGGER keep_llm_prices_truncation;

CREATE FUNCTION public.note_llm_price() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    today date := (statement_timestamp() AT TIME ZONE 'UTC')::date;
    known jsonb;
    changed jsonb := '{}';
BEGIN
    SELECT prices INTO known FROM public.llm_prices
     WHERE model_id = NEW.id AND valid_from <= today ORDER BY valid_from DESC, id DESC LIMIT 1;
    known := coalesce(known, '{}');
    IF (TG_OP = 'INSERT' OR NEW.cost_per_1k_input_tokens IS DISTINCT FROM OLD.cost_per_1k_input_tokens)
       AND NEW.cost_per_1k_input_tokens IS DISTINCT FROM round((known->>'input')::numeric, 6)
    THEN
        changed := changed || jsonb_build_object('input', trim_scale(NEW.cost_per_1k_input_tokens)::text);
    END IF;
    IF (TG_OP = 'INSERT' OR NEW.cost_per_1k_output_tokens IS DISTINCT FROM OLD.cost_per_1k_output_tokens)
       AND NEW.cost_per_1k_output_tokens IS DISTINCT FROM round((known->>'output')::numeric, 6)
    THEN
        changed := changed || jsonb_build_object('output', trim_scale(NEW.cost_per_1k_output_tokens)::text);
    END IF;
    -- What is free is free in every unit.
    IF NEW.cost_per_1k_input_tokens = 0 AND NEW.cost_per_1k_output_tokens = 0 AND changed <> '{}' THEN
        known := '{"cached_read": "0", "cache_write_5m": "0", "cache_write_1h": "0"}' || known;
    END IF;
    IF changed <> '{}' THEN
        INSERT INTO public.llm_prices (model_id, valid_from, prices, source, made_by)
        VALUES (NEW.id, today, jsonb_strip_nulls(known || changed), 'hand', 'database:' || session_user);
    END IF;
    RETURN NULL;
END;
$function$;

CREATE TRIGGER note_llm_price
AFTER INSERT OR UPDATE OF cost_per_1k_input_tokens, cost_per_1k_output_tokens ON public.llm_models
FOR EACH ROW EXECUTE FUNCTION public.note_llm_price();

INSERT INTO public.llm_prices (model_id, valid_from, prices, source, made_by)
SELECT id, (statement_timestamp() AT TIME ZONE 'UTC')::date,
       jsonb_strip_nulls(jsonb_build_object(
           'input', trim_scale(cost_per_1k_input_tokens)::text, 'output', trim_scale(cost_per_1k_output_tokens)::text
       )) || CASE WHEN cost_per_1k_input_tokens = 0 AND cost_per_1k_output_tokens = 0
                  THEN '{"cached_read": "0", "cache_write_5m": "0", "cache_write_1h": "0"}'::jsonb ELSE '{}' END,
       'earlier', 'migration'
  FROM public.llm_models
 WHERE cost_per_1k_input_tokens IS NOT NULL OR cost_per_1k_output_tokens IS NOT NULL;
"""

REVERSE_SQL: LiteralString = """
DROP TRIGGER note_llm_price ON public.llm_models;
DROP FUNCTION public.note_llm_price();
DROP TRIGGER keep_llm_prices_truncation ON public.llm_prices;
DROP TRIGGER keep_llm_prices ON public.llm_prices;
DROP FUNCTION public.keep_llm_prices();
ALTER TABLE public.llm_prices DROP CONSTRAINT llm_prices_model_id_fkey;
"""
