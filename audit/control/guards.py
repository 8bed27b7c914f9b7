"""SQL that makes the archive of erased tenants' logs append-only. The owner runs it once, from a migration.

Never change this SQL, because an applied migration runs it. Change the guards in a new migration with its own SQL.
"""

from typing import LiteralString

ARCHIVE_GUARDS_SQL: LiteralString = """
CREATE TRIGGER prevent_audit_log_modification
BEFORE UPDATE OR DELETE ON public.archived_audit_logs
FOR EACH ROW EXECUTE FUNCTION public.prevent_audit_log_modification();

CREATE TRIGGER prevent_audit_log_truncation
BEFORE TRUNCATE ON public.archived_audit_logs
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('TRUNCATE');

CREATE TRIGGER prevent_audit_log_modification
BEFORE UPDATE OR DELETE ON public.audit_archives
FOR EACH ROW EXECUTE FUNCTION public.prevent_audit_log_modification();

CREATE TRIGGER prevent_audit_log_truncation
BEFORE TRUNCATE ON public.audit_archives
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('TRUNCATE');

-- A log that was archived is complete. The lock keeps an entry from slipping in beside the transaction that ends it.
CREATE FUNCTION public.refuse_archived_audit_log() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('seo-gen:audit-archive:' || NEW.identity, 0));
    IF EXISTS (SELECT FROM public.audit_archives AS archive WHERE archive.identity = NEW.identity) THEN
        RAISE EXCEPTION 'the audit log of % is archived and complete', NEW.tenant_id;
    END IF;
    RETURN NEW;
END;
$function$;

CREATE TRIGGER refuse_archived_audit_log
BEFORE INSERT ON public.archived_audit_logs
FOR EACH ROW EXECUTE FUNCTION public.refuse_archived_audit_log();

CREATE TRIGGER refuse_archived_audit_log
BEFORE INSERT ON public.audit_archives
FOR EACH ROW EXECUTE FUNCTION public.refuse_archived_audit_log();

ALTER TABLE public.archived_audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE public.archived_audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;
ALTER TABLE public.archived_audit_logs ENABLE ALWAYS TRIGGER refuse_archived_audit_log;
ALTER TABLE public.audit_archives ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE public.audit_archives ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;
ALTER TABLE public.audit_archives ENABLE ALWAYS TRIGGER refuse_archived_audit_log;

-- Default privileges may have given some role more than reading and appending.
DO $block$
DECLARE
    excess record;
BEGIN
    FOR excess IN
        SELECT acl.privilege_type, acl.grantee, class.oid::regclass::text AS name
          FROM pg_catalog.pg_class AS class
         CROSS JOIN LATERAL aclexplode(class.relacl) AS acl
         WHERE class.oid IN ('public.archived_audit_logs'::regclass, 'public.audit_archives'::regclass)
           AND acl.grantee <> class.relowner AND acl.privilege_type NOT IN ('SELECT', 'INSERT')
    LOOP
        EXECUTE format(
            'REVOKE %s ON TABLE %s FROM %s', excess.privilege_type, excess.name,
            CASE excess.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(excess.grantee)) END
        );
    END LOOP;
END;
$block$;
"""
