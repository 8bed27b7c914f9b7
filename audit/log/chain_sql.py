"""SQL that makes an audit log append-only and chains it. The owner runs `guards_sql` once per log, from a migration.

The application's role may SELECT and INSERT. It does not own the tables and cannot read the chain's head, so it cannot
choose an id, sequence number, time or hash: the owner's SECURITY DEFINER trigger function sets them (PostgreSQL
manual, "Writing SECURITY DEFINER Functions Safely": fixed search_path, names outside pg_catalog qualified, EXECUTE
revoked). In the control database, this protects the log only if DATABASE_OWNER_URL is set: otherwise, the application's
role owns the tables.

Never change what `guards_sql` returns, because applied migrations call it. Change the guards in a new migration with
its own SQL.
"""

from typing import LiteralString

# What an entry's hash covers: each value as "<bytes in UTF-8>:<text>", NULL as "-", joined by commas, so that different
# entries never hash the same text. Times are in UTC, with microsecond precision. {row} is the row's name in the
# surrounding SQL.
HASHED_FIELDS: tuple[LiteralString, ...] = (
    "{row}.sequence::text",
    "{row}.previous_hash",
    "to_char({row}.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    "{row}.user_id",
    "{row}.action",
    "{row}.resource_type",
    "{row}.resource_id",
    "{row}.details::text",
    "{row}.operation_id",
)

# The owner runs it once, when a tenant's database is provisioned; the parameter is the tenant's identity (UUID). It
# binds the chain to that tenant, so that another tenant's log cannot be passed off as this one's. Once an entry exists,
# it affects no rows.
BIND_CHAIN_SQL: LiteralString = """
UPDATE public.audit_chain_heads
   SET hash = encode(sha256(convert_to('seo-gen audit chain of ' || (%s::uuid)::text, 'UTF8')), 'hex')
 WHERE sequence = 0
"""

_GUARDS: LiteralString = """
INSERT INTO public.{head} (sequence, hash)
VALUES (0, encode(sha256(convert_to('seo-gen audit chain of {log}', 'UTF8')), 'hex'));

CREATE OR REPLACE FUNCTION public.prevent_audit_log_modification() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION '% table does not allow %', TG_TABLE_NAME, coalesce(TG_ARGV[0], 'UPDATE or DELETE');
END;
$function$;

CREATE TRIGGER prevent_audit_log_modification
BEFORE UPDATE OR DELETE ON public.{log}
FOR EACH ROW EXECUTE FUNCTION public.prevent_audit_log_modification();

CREATE TRIGGER prevent_audit_log_truncation
BEFORE TRUNCATE ON public.{log}
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('TRUNCATE');

CREATE TRIGGER prevent_audit_chain_head_removal
BEFORE DELETE OR TRUNCATE ON public.{head}
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('DELETE or TRUNCATE');

-- Appends wait for each other on the head row; number, id and time are taken under that lock, since column defaults are
-- evaluated before it. A rolled back append leaves the head, and so the chain, as it was.
CREATE FUNCTION public.chain_{log}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    head public.{head}%ROWTYPE;
BEGIN
    SELECT * INTO head FROM public.{head} FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION '{head} has no row: {log} cannot be continued';
    END IF;
    NEW.sequence := head.sequence + 1;
    NEW.id := NEW.sequence;
    NEW.created_at := clock_timestamp();
    NEW.previous_hash := head.hash;
    NEW.entry_hash := {entry_hash};
    UPDATE public.{head} SET sequence = NEW.sequence, hash = NEW.entry_hash;
    RETURN NEW;
END;
$function$;

-- Else whoever may create a (temporary) table could hang the function on it and move the head.
REVOKE ALL ON FUNCTION public.chain_{log}() FROM PUBLIC;

CREATE TRIGGER chain_{log}
BEFORE INSERT ON public.{log}
FOR EACH ROW EXECUTE FUNCTION public.chain_{log}();

-- ALWAYS: they fire under session_replication_role = replica as well.
ALTER TABLE public.{log} ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE public.{log} ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;
ALTER TABLE public.{log} ENABLE ALWAYS TRIGGER chain_{log};
ALTER TABLE public.{head} ENABLE ALWAYS TRIGGER prevent_audit_chain_head_removal;

-- The head is rewritten with every entry: room on its page keeps those updates off the index.
ALTER TABLE public.{head} SET (fillfactor = 10);

-- Default privileges may have given some role more than it may have here. Which roles there are is the installation's
-- affair, so they are read from the catalog.
DO $block$
DECLARE
    excess record;
BEGIN
    FOR excess IN
        SELECT acl.privilege_type, acl.grantee, target.kind, target.name
          FROM (SELECT 'TABLE', oid::regclass::text, relacl, relowner, '{SELECT,INSERT}'::text[]
                  FROM pg_catalog.pg_class WHERE oid = 'public.{log}'::regclass
                UNION ALL
                SELECT 'TABLE', oid::regclass::text, relacl, relowner, '{}'
                  FROM pg_catalog.pg_class WHERE oid = 'public.{head}'::regclass
                UNION ALL
                SELECT 'FUNCTION', oid::regprocedure::text, proacl, proowner, '{}'
                  FROM pg_catalog.pg_proc WHERE oid = 'public.chain_{log}()'::regprocedure
               ) AS target (kind, name, acl, owner, allowed)
         CROSS JOIN LATERAL aclexplode(target.acl) AS acl
         WHERE acl.grantee <> target.owner AND acl.privilege_type <> ALL (target.allowed)
    LOOP
        EXECUTE format(
            'REVOKE %s ON %s %s FROM %s', excess.privilege_type, excess.kind, excess.name,
            CASE excess.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(excess.grantee)) END
        );
    END LOOP;
END;
$block$;
"""


def entry_hash_sql(row: LiteralString) -> LiteralString:
    """Return the SQL expression for the hash of the entry named `row`, in lower-case hexadecimal."""
    joined: LiteralString = ", ',', ".join(
        "coalesce(octet_length(convert_to({0}, 'UTF8'))::text || ':' || {0}, '-')".replace("{0}", field)
        for field in HASHED_FIELDS
    )
    expression: LiteralString = "encode(sha256(convert_to(concat(" + joined + "), 'UTF8')), 'hex')"
    return expression.replace("{row}", row)


def guards_sql(log: LiteralString, head: LiteralString) -> LiteralString:
    """Return the statements that guard and chain the table `log`; the table `head` holds the chain's head."""
    return _GUARDS.replace("{entry_hash}", entry_hash_sql("NEW")).replace("{log}", log).replace("{head}", head)
