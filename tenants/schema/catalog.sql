-- What a tenant's database consists of: one row per object, in the words of PostgreSQL's own definition functions.
-- Without object ids and positions, so that two databases that came to the same schema on different ways are equal.
-- Server-made NOT NULL constraints (PostgreSQL 18) are left out: the columns say it on every version.
--
-- Run with pg_catalog alone in the path (`audit.log.safe_search_path`), so definitions name the schema of whatever is not
-- PostgreSQL's own. The owner shows as the database's where it is the same: a database that a guest still owns then
-- differs in its grants and in the row "database owner" alone.
--
-- A new session's first look at a catalog costs about a millisecond, and this runs once per tenant. So each catalog is
-- read by itself, without joins, and those that only repeat or refine what stands here are left out: rules and policies
-- show as a property of their table, functions of an extension as functions. Objects of ours have ids from 16384 on;
-- 2200 is the schema public, 100 the default collation.
WITH ours (owner) AS MATERIALIZED (
    SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()
), objects (kind, name, definition) AS (
    SELECT 'database', 'owner', owner::regrole::text FROM ours
    UNION ALL
    SELECT 'schema', quote_ident(nspname),
           concat_ws(' ', 'owner', nullif(nspowner, (SELECT owner FROM ours))::regrole)
      FROM pg_catalog.pg_namespace
     WHERE oid >= 16384::oid OR oid = 2200::oid
    UNION ALL
    SELECT 'grant', quote_ident(nspname),
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS item)
      FROM pg_catalog.pg_namespace
     WHERE oid >= 16384::oid OR oid = 2200::oid
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END,
           regexp_replace(oid::regclass::text, '^public\.', ''),
           concat_ws(' ', 'owner', nullif(relowner, (SELECT owner FROM ours))::regrole,
                     relkind, relpersistence, relreplident,
                     CASE WHEN relhasrules AND relkind NOT IN ('v', 'm') THEN 'rules' END,
                     CASE WHEN relrowsecurity THEN 'row security' END,
                     CASE WHEN relforcerowsecurity THEN 'forced' END, reloptions,
                     CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
                     CASE WHEN relkind = 'S'
                          THEN (SELECT concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax,
                                                 seqcache, CASE WHEN seqcycle THEN 'cycle' END)
                                  FROM pg_catalog.pg_sequence WHERE seqrelid = pg_class.oid) END)
      FROM pg_catalog.pg_class
     WHERE oid >= 16384::oid AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'grant', regexp_replace(oid::regclass::text, '^public\.', ''),
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
                AS item)
      FROM pg_catalog.pg_class
     WHERE oid >= 16384::oid AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'column', regexp_replace(attrelid::regclass::text, '^public\.', '') || '.' || quote_ident(attname),
           concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                     CASE WHEN atthasdef
                          THEN (SELECT 'default ' || pg_get_expr(adbin, adrelid)
                                  FROM pg_catalog.pg_attrdef WHERE adrelid = attrelid AND adnum = attnum) END,
                     'identity ' || nullif(attidentity::text, ''), 'generated ' || nullif(attgenerated::text, ''),
                     'grants ' || attacl::text,
                     CASE WHEN attcollation NOT IN (0::oid, 100::oid) THEN attcollation::regcollation::text END)
      FROM pg_catalog.pg_attribute
     WHERE attrelid >= 16384::oid AND attnum > 0::int2 AND NOT attisdropped
       AND (SELECT relkind FROM pg_catalog.pg_class WHERE oid = attrelid) IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'constraint',
           regexp_replace(CASE WHEN conrelid <> 0::oid THEN conrelid::regclass::text ELSE contypid::regtype::text END,
                          '^public\.', '')
               || '.' || quote_ident(conname),
           concat_ws(' ', pg_get_constraintdef(oid), CASE WHEN NOT convalidated THEN 'not valid' END)
      FROM pg_catalog.pg_constraint
     WHERE oid >= 16384::oid AND contype IN ('c', 'f', 'p', 'u', 'x')
    UNION ALL
    SELECT 'index', regexp_replace(indexrelid::regclass::text, '^public\.', ''),
           concat_ws(' ', pg_get_indexdef(indexrelid), CASE WHEN NOT (indisvalid AND indisready) THEN 'invalid' END)
      FROM pg_catalog.pg_index
     WHERE indexrelid >= 16384::oid AND (SELECT relkind FROM pg_catalog.pg_class WHERE oid = indrelid) <> 't'
    UNION ALL
    SELECT 'trigger', regexp_replace(tgrelid::regclass::text, '^public\.', '') || '.' || quote_ident(tgname),
           concat_ws(' ', pg_get_triggerdef(oid), tgenabled)
      FROM pg_catalog.pg_trigger
     WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', regexp_replace(oid::regprocedure::text, '^public\.', ''),
           concat_ws(' ', 'owner', nullif(proowner, (SELECT owner FROM ours))::regrole,
                     CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(oid) ELSE prokind::text END)
      FROM pg_catalog.pg_proc
     WHERE oid >= 16384::oid
    UNION ALL
    SELECT 'grant', regexp_replace(oid::regprocedure::text, '^public\.', ''),
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(proacl, acldefault('f', proowner))) AS item)
      FROM pg_catalog.pg_proc
     WHERE oid >= 16384::oid
    UNION ALL
    SELECT 'type', regexp_replace(oid::regtype::text, '^public\.', ''),
           concat_ws(' ', 'owner', nullif(typowner, (SELECT owner FROM ours))::regrole, typtype,
                     nullif(typbasetype, 0::oid)::regtype)
      FROM pg_catalog.pg_type
     WHERE oid >= 16384::oid
       AND (typtype IN ('d', 'e', 'r', 'm')
            OR typtype = 'c' AND (SELECT relkind FROM pg_catalog.pg_class WHERE pg_class.oid = typrelid) = 'c')
    UNION ALL
    SELECT 'operator', regexp_replace(oid::regoperator::text, '^public\.', ''), oprcode::regprocedure::text
      FROM pg_catalog.pg_operator
     WHERE oid >= 16384::oid
    UNION ALL
    SELECT 'cast', castsource::regtype::text || ' as ' || casttarget::regtype::text, castcontext::text
      FROM pg_catalog.pg_cast
     WHERE oid >= 16384::oid
)
