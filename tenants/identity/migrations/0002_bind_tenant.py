from django.db import migrations

from audit.log.chain_sql import BIND_CHAIN_SQL

# Called once, as the tenant's own role, when its database is provisioned; called again it changes nothing, and returns
# whose the database already is. The owner's function, since the role may write neither the identity nor the chain's head.
BIND_TENANT = """
CREATE FUNCTION public.bind_tenant(new_id text, new_identity uuid, actor text, operation text)
RETURNS public.tenant_identity
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    bound public.tenant_identity%ROWTYPE;
BEGIN
    INSERT INTO public.tenant_identity (tenant_id, identity) VALUES (new_id, new_identity) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        {bind_chain};
        INSERT INTO public.audit_logs (user_id, action, resource_type, resource_id, operation_id)
        VALUES (actor, 'tenant.create', 'tenant', new_id, operation);
    END IF;
    SELECT * INTO bound FROM public.tenant_identity;
    RETURN bound;
END;
$function$;
""".replace("{bind_chain}", BIND_CHAIN_SQL.strip().replace("%s", "new_identity"))


class Migration(migrations.Migration):
    dependencies = [("tenant_identity", "0001_initial"), ("audit", "0001_initial")]

    operations = [
        migrations.RunSQL(BIND_TENANT, "DROP FUNCTION public.bind_tenant(text, uuid, text, text)"),
    ]
