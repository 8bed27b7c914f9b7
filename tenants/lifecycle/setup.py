"""Prepare the control database: its tables, the servers that tenants live on, and the catalogue of models."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import F

from audit.log.entries import record
from config.base.databases import CONTROL
from llm.routing import catalogue_fill
from tenants.credentials import require_keys
from tenants.errors import ServerError
from tenants.models import DatabaseServer, Tenant, database_prefix
from tenants.schema.template import drop_unused_templates
from tenants.servers.admin_url import require_server_url
from tenants.servers.control_rights import control_rights_problems, control_rights_require
from tenants.servers.rights_check import rights_problems
from tenants.servers.session import ServerSession, parse_location

# The server named by TENANT_SERVER_URL.
MAIN_SERVER = "main"


def control_setup(*, verbosity: int = 0) -> list[str]:
    """Bring the control database and the servers up to this release; return what is wrong with them, as sentences.

    1. check the encryption keys, and the rights of the control database's roles and of the main server's administrator:
    raise `EncryptionKeyError` or `ServerError` before anything is changed; 2. apply the migrations; 3. register the
    main server and store where its WAL is archived, set up every server, and report those that cannot be set up;
    4. insert what is missing from the catalogue of models, and drop unused templates. Safe to repeat.
    """
    require_keys()
    control_rights_require()
    if settings.TENANT_SERVER_URL:
        require_server_url(settings.TENANT_SERVER_URL)
        _require_rights(DatabaseServer(name=MAIN_SERVER, admin_url=settings.TENANT_SERVER_URL))
    before = _applied()
    call_command("migrate", database=CONTROL, interactive=False, verbosity=verbosity)
    _record_migrations(_applied() - before)
    if settings.TENANT_SERVER_URL:
        server_register(name=MAIN_SERVER, admin_url=settings.TENANT_SERVER_URL)
        _note_archive(MAIN_SERVER, settings.TENANT_SERVER_WAL_ARCHIVE)
    problems = control_rights_problems()
    problems += [problem for server in DatabaseServer.objects.using(CONTROL) for problem in _prepared(server)]
    catalogue_fill()
    drop_unused_templates()
    return problems


def server_register(*, name: str, admin_url: str) -> DatabaseServer:
    """Set up a server, record it or its new address, and return it; the URLs of the tenants on it are updated.

    Does nothing if the address is already recorded. Raises `ServerURLRefused`, or `ServerError` if the server cannot
    be used.
    """
    require_server_url(admin_url)
    server = DatabaseServer.objects.using(CONTROL).filter(pk=name).first()
    if server is not None and server.admin_url == admin_url:
        return server
    moved = server is not None
    if server is None:
        has_default = DatabaseServer.objects.using(CONTROL).filter(is_default=True).exists()
        server = DatabaseServer(name=name, is_default=not has_default)
    server.admin_url = admin_url
    with ServerSession(server, database_prefix()) as server_session:
        server_session.prepare()
        server.owner_password = _owner_password(server_session)
        with transaction.atomic(using=CONTROL):
            server.save(using=CONTROL)
            if moved:
                _follow(server_session)
            record(using=CONTROL, action="server.change", resource_type="database_server", resource_id=name)
        _let_owner_in(server_session)
    return server


def _require_rights(server: DatabaseServer) -> None:
    with ServerSession(server, database_prefix()) as server_session:
        server_session.require_needed()


def _prepared(server: DatabaseServer) -> list[str]:
    """Set up a server's roles and the owner's login; return one sentence for each problem."""
    try:
        with ServerSession(server, database_prefix()) as server_session:
            server_session.prepare()
            password = _owner_password(server_session)
            if password != server.owner_password:
                server.owner_password = password
                with transaction.atomic(using=CONTROL):
                    server.save(using=CONTROL, update_fields=["owner_password"])
                    record(
                        using=CONTROL,
                        action="server.change",
                        resource_type="database_server",
                        resource_id=server.name,
                        details={"fields": ["owner_password"]},
                    )
            _let_owner_in(server_session)
            return [f"{server.name}: {problem}" for problem in rights_problems(server_session)]
    except ServerError as error:
        return [str(error)]


def _owner_password(server_session: ServerSession) -> str:
    """Return the owner's password: from the row, from another row for the same server, or a new one."""
    present: str = server_session.server.owner_password
    if present:
        return present
    for server in DatabaseServer.objects.using(CONTROL):
        if server.owner_password and server_session.lets_owner_in(server.owner_password):
            return str(server.owner_password)
    return secrets.token_urlsafe(32)


def _let_owner_in(server_session: ServerSession) -> None:
    if not server_session.lets_owner_in(server_session.server.owner_password):
        server_session.let_owner_in(server_session.server.owner_password)


def _applied() -> set[str]:
    return {f"{app}.{name}" for app, name in MigrationRecorder(connections[CONTROL]).applied_migrations()}


def _record_migrations(applied: set[str]) -> None:
    """Record in the control log which migrations were applied: afterwards, since one of them creates that log."""
    if applied:
        details: dict[str, object] = {"migrations": sorted(applied)}
        with transaction.atomic(using=CONTROL):
            record(
                using=CONTROL,
                action="control.setup",
                resource_type="control_database",
                resource_id="control",
                details=details,
            )


def _note_archive(name: str, archive: str) -> None:
    """Store where the server's WAL is archived, unless its WAL archive or its restore command is already set."""
    if not archive:
        return
    with transaction.atomic(using=CONTROL):
        unknown = DatabaseServer.objects.using(CONTROL).filter(pk=name, wal_archive="", wal_restore_command="")
        if unknown.update(wal_archive=archive):
            details: dict[str, object] = {"wal_archive": archive}
            record(
                using=CONTROL,
                action="server.change",
                resource_type="database_server",
                resource_id=name,
                details=details,
            )


def _follow(server_session: ServerSession) -> None:
    """Point a server's tenants at its new address; each keeps its own database, role and password."""
    for tenant in Tenant.objects.using(CONTROL).select_for_update().filter(server=server_session.server):
        old = parse_location(tenant.database_url)
        new = server_session.location(old.database, old.password)
        if urlsplit(new.url).netloc != urlsplit(old.url).netloc:
            tenant.database_url = new.url
            tenant.connection_version = F("connection_version") + 1
            tenant.save(using=CONTROL, update_fields=["database_url", "connection_version"])
