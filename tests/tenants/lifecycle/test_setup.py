"""What `control setup` notes about the server that new tenants go to."""

from __future__ import annotations

from typing import Any

from audit.control.models import ControlAuditLog
from tenants.lifecycle.setup import MAIN_SERVER, control_setup
from tenants.models import DatabaseServer


def test_wal_archive_is_stored_unless_set(settings: Any) -> None:
    server = DatabaseServer.objects.filter(pk=MAIN_SERVER)
    server.update(wal_archive="")
    # Other tests change this server too, and nobody can remove their entries.
    before = ControlAuditLog.objects.order_by("-id").values_list("id", flat=True)[0]
    try:
        for archive in ("s3://archive/main", "s3://archive/other"):
            settings.TENANT_SERVER_WAL_ARCHIVE = archive
            control_setup()
            assert server.get().wal_archive == "s3://archive/main"
        entries = ControlAuditLog.objects.filter(action="server.change", resource_id=MAIN_SERVER, id__gt=before)
        assert [entry.details for entry in entries if entry.details] == [{"wal_archive": "s3://archive/main"}]
    finally:
        server.update(wal_archive="")


def test_the_migrations_that_were_applied_are_recorded() -> None:
    """The session's first set-up made the log itself."""
    first = ControlAuditLog.objects.filter(action="control.setup").earliest("id")
    assert first.details is not None
    assert {"audit_control.0001_initial", "tenants.0001_initial"} <= set(first.details["migrations"])
    before = ControlAuditLog.objects.filter(action="control.setup").count()
    control_setup()
    assert ControlAuditLog.objects.filter(action="control.setup").count() == before, "nothing was left to apply"
