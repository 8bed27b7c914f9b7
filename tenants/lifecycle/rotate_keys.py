"""Re-encrypt every stored credential with the first configured key, so that older keys can be removed."""

from django.db import transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import DatabaseServer, Tenant


def credentials_rotate() -> int:
    """Re-encrypt the credentials of all servers and tenants; return the number of servers and tenants together.

    All or nothing: one transaction, with the rows locked. Raises `EncryptionKeyError` if no configured key can decrypt
    one of them.
    """
    with transaction.atomic(using=CONTROL):
        count = 0
        for server in DatabaseServer.objects.using(CONTROL).select_for_update():
            server.save(using=CONTROL, update_fields=["admin_url", "owner_password"])
            count += 1
        for tenant in Tenant.objects.using(CONTROL).select_for_update(of=("self",)):
            tenant.save(using=CONTROL, update_fields=["database_url"])
            count += 1
        record(
            using=CONTROL,
            action="control.rotate",
            resource_type="credentials",
            resource_id="all",
            details={"count": count},
        )
    return count
