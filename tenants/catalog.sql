-- What a tenant's database consists of: one row per object, in the words of PostgreSQL's own definition functions.
-- Without object ids and positions, so that two databases that came to the same schema on different ways are equal.
-- Server-made NOT NULL constraints (PostgreSQL 18) are left out: the columns say it on every version.
WITH schemas AS MATERIALIZED (
    SELECT oid, nspname, nspowner, nspacl
      FROM pg_catalog.pg_namespace
     WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relations AS MATERIALIZED (
    SELECT c.oid, c.oid::pg_catalog.regclass::text AS name, c.relkind, c.relowner, c.relacl,
           concat_ws(' ', 'owner', c.relowner::pg_catalog.regrole, c.relkind, c.relpersistence, c.relreplident,
                     CASE WHEN c.relrowsecurity THEN 'row security' END,
                     CASE WHEN c.relforcerowsecurity THEN 'forced' END, c.reloptions) AS properties
      FROM pg_catalog.pg_class c
      JOIN schemas ON schemas.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
), objects (kind, name, definition) AS (
    SELECT 'schema', quote_ident(nspname), concat_ws(' ', 'owner', nspowner::pg_catalog.regrole)
      FROM schemas
    UNION ALL
    SELECT 'grant', quote_ident(nspname),
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS item)
      FROM schemas
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END, name,
           concat_ws(' ', properties, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
      FROM relations
    UNION ALL
    SELECT 'sequence', seqrelid::pg_catalog.regclass::text || ' values',
           concat_ws(' ', seqtypid::pg_catalog.regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
      FROM pg_catalog.pg_sequence
    UNION ALL
    SELECT 'grant', name,
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) item)
      FROM relations
    UNION ALL
    SELECT 'column', relations.name || '.' || quote_ident(a.attname),
           concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
                     'default ' || pg_get_expr(d.adbin, d.adrelid), 'identity ' || nullif(a.attidentity::text, ''),
                     'generated ' || nullif(a.attgenerated::text, ''), 'grants ' || a.attacl::text,
                     CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation::text END)
      FROM relations
      JOIN pg_catalog.pg_attribute a ON a.attrelid = relations.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE relations.relkind <> 'S'
    UNION ALL
    SELECT 'constraint', relations.name || '.' || quote_ident(k.conname),
           concat_ws(' ', pg_get_constraintdef(k.oid), CASE WHEN NOT k.convalidated THEN 'not valid' END)
      FROM relations
      JOIN pg_catalog.pg_constraint k ON k.conrelid = relations.oid
     WHERE k.contype IN ('c', 'f', 'p', 'u', 'x')
    UNION ALL
    SELECT 'index', i.indexrelid::pg_catalog.regclass::text,
           concat_ws(' ', pg_get_indexdef(i.indexrelid), CASE WHEN NOT (i.indisvalid AND i.indisready) THEN 'invalid' END)
      FROM relations
      JOIN pg_catalog.pg_index i ON i.indrelid = relations.oid
    UNION ALL
    SELECT 'trigger', relations.name || '.' || quote_ident(t.tgname), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
      FROM relations
      JOIN pg_catalog.pg_trigger t ON t.tgrelid = relations.oid
     WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'rule', relations.name || '.' || quote_ident(r.rulename), concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
      FROM relations
      JOIN pg_catalog.pg_rewrite r ON r.ev_class = relations.oid
     WHERE r.rulename <> '_RETURN'
    UNION ALL
    SELECT 'policy', relations.name || '.' || quote_ident(p.polname),
           concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::pg_catalog.regrole[], pg_get_expr(p.polqual, p.polrelid),
                     pg_get_expr(p.polwithcheck, p.polrelid))
      FROM relations
      JOIN pg_catalog.pg_policy p ON p.polrelid = relations.oid
    UNION ALL
    SELECT 'function', p.oid::pg_catalog.regprocedure::text,
           concat_ws(' ', 'owner', p.proowner::pg_catalog.regrole,
                     CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prokind::text END)
      FROM pg_catalog.pg_proc p
      JOIN schemas ON schemas.oid = p.pronamespace
    UNION ALL
    SELECT 'grant', p.oid::pg_catalog.regprocedure::text,
           (SELECT string_agg(item::text, ', ' ORDER BY item::text COLLATE "C")
              FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) AS item)
      FROM pg_catalog.pg_proc p
      JOIN schemas ON schemas.oid = p.pronamespace
    UNION ALL
    SELECT 'type', t.oid::pg_catalog.regtype::text,
           concat_ws(' ', 'owner', t.typowner::pg_catalog.regrole, t.typtype, t.typbasetype::pg_catalog.regtype,
                     (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                        FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
                     (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname COLLATE "C")
                        FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid))
      FROM pg_catalog.pg_type t
      JOIN schemas ON schemas.oid = t.typnamespace
     WHERE t.typtype IN ('d', 'e', 'r')
    UNION ALL
    SELECT 'extension', quote_ident(extname), extversion
      FROM pg_catalog.pg_extension
    UNION ALL
    SELECT 'event trigger', quote_ident(evtname), concat_ws(' ', evtevent, evtfoid::pg_catalog.regproc, evtenabled)
      FROM pg_catalog.pg_event_trigger
    UNION ALL
    SELECT 'default grant', concat_ws(' ', 'of', defaclrole::pg_catalog.regrole, defaclnamespace::pg_catalog.regnamespace, defaclobjtype),
           defaclacl::text
      FROM pg_catalog.pg_default_acl
)
