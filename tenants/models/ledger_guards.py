"""SQL that makes the erasure ledger append-only. The owner runs it once, from a migration, so it must not change.

While a deletion is running, it can record its progress, but what it deletes never changes. Once it is completed, only
one more change is possible: to record, once, that old row versions were removed from the control database.
"""

from typing import LiteralString

LEDGER_GUARDS_SQL: LiteralString = """
CREATE TRIGGER prevent_audit_log_modification
BEFORE DELETE ON public.erasures
FOR EACH ROW EXECUTE FUNCTION public.prevent_audit_log_modification('DELETE');

CREATE TRIGGER prevent_audit_log_truncation
BEFORE TRUNCATE ON public.erasures
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('TRUNCATE');

CREATE FUNCTION public.freeze_erasure() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF (NEW.operation_id, NEW.tenant_id, NEW.identity, NEW.chain_identity, NEW.server, NEW.database, NEW.role)
       IS DISTINCT FROM
       (OLD.operation_id, OLD.tenant_id, OLD.identity, OLD.chain_identity, OLD.server, OLD.database, OLD.role)
    THEN
        RAISE EXCEPTION 'erasures table does not allow UPDATE of whose erasure it is';
    END IF;
    IF OLD.completed_at IS NOT NULL AND (
       (NEW.phase, NEW.accepts, NEW.found, NEW.certificate, NEW.digest, NEW.completed_at)
       IS DISTINCT FROM
       (OLD.phase, OLD.accepts, OLD.found, OLD.certificate, OLD.digest, OLD.completed_at))
    THEN
        RAISE EXCEPTION 'erasures table does not allow UPDATE of an erasure that is completed';
    END IF;
    IF OLD.rewritten_at IS NOT NULL AND (
       (NEW.rewritten_at, NEW.rewritten_segment) IS DISTINCT FROM (OLD.rewritten_at, OLD.rewritten_segment))
    THEN
        RAISE EXCEPTION 'erasures table does not allow UPDATE of what was noted once';
    END IF;
    RETURN NEW;
END;
$function$;

CREATE TRIGGER freeze_erasure
BEFORE UPDATE ON public.erasures
FOR EACH ROW EXECUTE FUNCTION public.freeze_erasure();

-- ALWAYS: they fire under session_replication_role = replica as well.
ALTER TABLE public.erasures ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE public.erasures ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;
ALTER TABLE public.erasures ENABLE ALWAYS TRIGGER freeze_erasure;

-- Default privileges may have given some role more than reading and appending; who may update, may do so where a
-- deletion that is under way must.
DO $block$
DECLARE
    excess record;
BEGIN
    FOR excess IN
        SELECT acl.privilege_type,
               CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END AS grantee
          FROM pg_catalog.pg_class AS class
         CROSS JOIN LATERAL aclexplode(class.relacl) AS acl
         WHERE class.oid = 'public.erasures'::regclass
           AND acl.grantee <> class.relowner AND acl.privilege_type NOT IN ('SELECT', 'INSERT')
    LOOP
        EXECUTE format('REVOKE %s ON TABLE public.erasures FROM %s', excess.privilege_type, excess.grantee);
        IF excess.privilege_type = 'UPDATE' THEN
            EXECUTE format(
                'GRANT UPDATE (phase, accepts, found, certificate, digest, completed_at, rewritten_at,'
                ' rewritten_segment) ON TABLE public.erasures TO %s', excess.grantee
            );
        END IF;
    END LOOP;
END;
$block$;
"""
