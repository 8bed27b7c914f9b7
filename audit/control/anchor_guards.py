"""SQL that makes the anchors append-only. The owner runs it once, from a migration, so it must never change."""

from typing import LiteralString

ANCHOR_GUARDS_SQL: LiteralString = """
CREATE TRIGGER prevent_audit_log_modification
BEFORE UPDATE OR DELETE ON public.audit_anchors
FOR EACH ROW EXECUTE FUNCTION public.prevent_audit_log_modification();

CREATE TRIGGER prevent_audit_log_truncation
BEFORE TRUNCATE ON public.audit_anchors
FOR EACH STATEMENT EXECUTE FUNCTION public.prevent_audit_log_modification('TRUNCATE');

ALTER TABLE public.audit_anchors ENABLE ALWAYS TRIGGER prevent_audit_log_modification;
ALTER TABLE public.audit_anchors ENABLE ALWAYS TRIGGER prevent_audit_log_truncation;

-- Default privileges may have given some role more than reading and appending.
DO $block$
DECLARE
    excess record;
BEGIN
    FOR excess IN
        SELECT acl.privilege_type, acl.grantee
          FROM pg_catalog.pg_class AS class
         CROSS JOIN LATERAL aclexplode(class.relacl) AS acl
         WHERE class.oid = 'public.audit_anchors'::regclass
           AND acl.grantee <> class.relowner AND acl.privilege_type NOT IN ('SELECT', 'INSERT')
    LOOP
        EXECUTE format(
            'REVOKE %s ON TABLE public.audit_anchors FROM %s', excess.privilege_type,
            CASE excess.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(excess.grantee)) END
        );
    END LOOP;
END;
$block$;
"""
