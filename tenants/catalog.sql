-- What a tenant's database consists of: one row per object, in the words of PostgreSQL's own definition functions.
-- Without object ids and positions, so that two databases that came to the same schema on different ways are equal.
-- Server-made NOT NULL constraints (PostgreSQL 18) are left out: the columns say it on every version.
--
-- A new session's first look at a catalog costs about a millisecond, and this runs once per tenant. So each catalog is
-- read by itself, without joins, and those that only repeat or refine what stands here are left out: rules and policies
-- show as a property of their table, functions of an extension as functions. Objects of ours have ids from 16384 on;
-- 2200 is the schema public, 100 the default collation.
WITH objects (kind, name, definition) AS (
    SELECT 'schema', quote_ident(nspname), concat_ws(' ', 'owner', nspowner::regrole)
      FROM pg_catalog.pg_namespace
     WHERE oid >= 16384 OR oid = 2200
    UNION ALL
    SELECT 'grant', quote_ident(nspname),
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS item)
      FROM pg_catalog.pg_namespace
     WHERE oid >= 16384 OR oid = 2200
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END,
           oid::regclass::text,
           concat_ws(' ', 'owner', relowner::regrole, relkind, relpersistence, relreplident,
                     CASE WHEN relhasrules AND relkind NOT IN ('v', 'm') THEN 'rules' END,
                     CASE WHEN relrowsecurity THEN 'row security' END,
                     CASE WHEN relforcerowsecurity THEN 'forced' END, reloptions,
                     CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
      FROM pg_catalog.pg_class
     WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'grant', oid::regclass::text,
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
                AS item)
      FROM pg_catalog.pg_class
     WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT 'column', attrelid::regclass::text || '.' || quote_ident(attname),
           concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                     CASE WHEN atthasdef
                          THEN (SELECT 'default ' || pg_get_expr(adbin, adrelid)
                                  FROM pg_catalog.pg_attrdef WHERE adrelid = attrelid AND adnum = attnum) END,
                     'identity ' || nullif(attidentity::text, ''), 'generated ' || nullif(attgenerated::text, ''),
                     'grants ' || attacl::text,
                     CASE WHEN attcollation NOT IN (0, 100) THEN attcollation::regcollation::text END)
      FROM pg_catalog.pg_attribute
     WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped
       AND (SELECT relkind FROM pg_catalog.pg_class WHERE oid = attrelid) IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'constraint',
           CASE WHEN conrelid <> 0 THEN conrelid::regclass::text ELSE contypid::regtype::text END
               || '.' || quote_ident(conname),
           concat_ws(' ', pg_get_constraintdef(oid), CASE WHEN NOT convalidated THEN 'not valid' END)
      FROM pg_catalog.pg_constraint
     WHERE oid >= 16384 AND contype IN ('c', 'f', 'p', 'u', 'x')
    UNION ALL
    SELECT 'index', indexrelid::regclass::text,
           concat_ws(' ', pg_get_indexdef(indexrelid), CASE WHEN NOT (indisvalid AND indisready) THEN 'invalid' END)
      FROM pg_catalog.pg_index
     WHERE indexrelid >= 16384 AND (SELECT relkind FROM pg_catalog.pg_class WHERE oid = indrelid) <> 't'
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text || '.' || quote_ident(tgname),
           concat_ws(' ', pg_get_triggerdef(oid), tgenabled)
      FROM pg_catalog.pg_trigger
     WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', oid::regprocedure::text,
           concat_ws(' ', 'owner', proowner::regrole,
                     CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(oid) ELSE prokind::text END)
      FROM pg_catalog.pg_proc
     WHERE oid >= 16384
    UNION ALL
    SELECT 'grant', oid::regprocedure::text,
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(proacl, acldefault('f', proowner))) AS item)
      FROM pg_catalog.pg_proc
     WHERE oid >= 16384
    UNION ALL
    SELECT 'type', oid::regtype::text, concat_ws(' ', 'owner', typowner::regrole, typtype, nullif(typbasetype, 0)::regtype)
      FROM pg_catalog.pg_type
     WHERE oid >= 16384 AND typtype IN ('d', 'e', 'r')
)
