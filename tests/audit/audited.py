"""What audit tests compare: new entries and the changed state; also a log that refuses entries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from django.conf import settings
from psycopg import sql

from audit.control.models import ControlAuditLog
from audit.models import AuditEntry, AuditLog
from tenants.models import DatabaseServer, Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.support.superuser import superuser_url
from tests.tenants.support.filled import files_of, rows_of

# Records of observed or planned state, which have no entries; and staff sessions.
NOTES = ("work_seen_at", "schema_version", "schema_drift", "schema_fingerprint", "schema_stamp", "schema_checked_at")
LEFT_OUT = ("django_session",)
REFUSAL = "the log is refused by a test"
REFUSE = f"""
CREATE FUNCTION refuse_audit_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{REFUSAL}'; END; $$
"""
ANYWHERE = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True)
class Mark:
    """The lengths of the control log and a tenant's log at one time, so that later entries can be found."""

    tenant: Tenant
    control: int = field(default_factory=lambda: _length(ControlAuditLog))
    own: int = -1

    @classmethod
    def now(cls, tenant: Tenant) -> Mark:
        with tenant_context(tenant, statuses=ANYWHERE):
            return cls(tenant, own=_length(AuditLog))

    def control_entries(self) -> list[AuditEntry]:
        return list(ControlAuditLog.objects.filter(sequence__gt=self.control).order_by("sequence"))

    def own_entries(self) -> list[AuditEntry]:
        if Tenant.objects.filter(pk=self.tenant.pk, status=TenantStatus.DELETED).exists():
            return []
        with tenant_context(self.tenant, statuses=ANYWHERE):
            return list(AuditLog.objects.filter(sequence__gt=self.own).order_by("sequence"))


def actions_of(entries: list[AuditEntry]) -> set[str]:
    return {entry.action for entry in entries}


def state(tenant: Tenant, folder: Path) -> dict[str, object]:
    """Return what a command or a page might change: rows (not NOTES or LEFT_OUT), databases, roles, slots, files."""
    with as_superuser() as connection:
        names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        control = {name: _rows(connection, name) for name in sorted(names) if name not in LEFT_OUT}
        server = [
            sorted(str(row) for row in connection.execute(query))
            for query in (
                "SELECT datname FROM pg_database WHERE datname !~ 'template'",
                "SELECT rolname, rolpassword FROM pg_authid",
                "SELECT slot_name FROM pg_replication_slots",
            )
        ]
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {"control": control, "server": server, "own": rows_of(tenant), "stored": files_of(tenant), "folder": found}


def changed(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """Return what differs between two states, down to the rows; {} if nothing does."""
    found: dict[str, object] = {}
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found[name] = changed(one, other)
        elif isinstance(one, list) and isinstance(other, list):
            found[name] = [("-", row) for row in one if row not in other] + [
                ("+", row) for row in other if row not in one
            ]
        elif one != other:
            found[name] = one, other
    return {name: what for name, what in found.items() if what}


@contextmanager
def log_refused(tenant: Tenant | None = None, *, action: str | None = None) -> Iterator[None]:
    """Make the control log or the tenant's log refuse all entries, or those of one action."""
    table = "audit_logs" if tenant else "control_audit_logs"
    condition = sql.SQL("WHEN (NEW.action = {})").format(sql.Literal(action)) if action else sql.SQL("")
    trigger = sql.SQL(
        "CREATE TRIGGER refuse_audit_entry BEFORE INSERT ON {} FOR EACH ROW {} EXECUTE FUNCTION refuse_audit_entry()"
    )
    with as_superuser(tenant) as connection:
        connection.execute(REFUSE)
        connection.execute(trigger.format(sql.Identifier(table), condition))
    try:
        yield
    finally:
        with as_superuser(tenant) as connection:
            connection.execute("DROP FUNCTION refuse_audit_entry CASCADE")


@contextmanager
def as_superuser(tenant: Tenant | None = None) -> Iterator[psycopg.Connection]:
    """Yield a superuser's connection to the tenant's database, if a tenant is given, or to the control database."""
    path = urlsplit(tenant.database_url).path if tenant else f"/{settings.DATABASES['default']['NAME']}"
    url = superuser_url(DatabaseServer.objects.get(pk="main").admin_url, path.lstrip("/"))
    with psycopg.connect(url) as connection:
        yield connection


def _rows(connection: psycopg.Connection, table: str) -> list[str]:
    query = sql.SQL("SELECT (to_jsonb(t) - {}::text[])::text FROM {} AS t ORDER BY 1")
    return [text for (text,) in connection.execute(query.format(sql.Literal(list(NOTES)), sql.Identifier(table)))]


def _length(log: type[AuditLog] | type[ControlAuditLog]) -> int:
    return log.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
