"""What erasures leave for ever, removed: other tests look through the control database too."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.conf import settings

from tenants.models import DatabaseServer, Erasure, Tenant, TenantOperation
from tenants.services.setup import MAIN_SERVER

ARCHIVE = ("archived_audit_logs", "audit_archives")
TRIGGERS = ("prevent_audit_log_modification", "prevent_audit_log_truncation", "refuse_archived_audit_log")


def forget_erasure(row: Erasure) -> None:
    """Remove the record, the tombstone and the archived log."""
    Tenant.objects.filter(pk=row.tenant_id).delete()
    Erasure.objects.filter(pk=row.pk).delete()
    TenantOperation.objects.filter(pk=row.pk).delete()
    server = DatabaseServer.objects.get(pk=MAIN_SERVER)
    url = urlunsplit(urlsplit(server.admin_url)._replace(path=f"/{settings.DATABASES['default']['NAME']}"))
    with psycopg.connect(url) as superuser:
        for table in ARCHIVE:
            superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            superuser.execute(f"DELETE FROM {table} WHERE identity = %s", (row.identity,))
            for trigger in TRIGGERS:
                superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
