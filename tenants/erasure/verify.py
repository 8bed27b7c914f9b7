"""Look again, everywhere, whether an erasure still holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.control.models import AuditArchive, ControlAuditLog
from audit.log.archive import archive_problem
from audit.log.entries import record
from config.base.databases import CONTROL
from config.base.errors import SeoGenError
from tenants.app_hooks import contents
from tenants.backup.backup_files import is_there, names_of
from tenants.erasure.cache import cached_keys
from tenants.erasure.inventory import OUT_OF_REACH, THERE, database_names, databases_saying, files_held, storage_held
from tenants.erasure_ledger import digest_of, erasure_get, erasures
from tenants.errors import ServerError
from tenants.files import tenant_storage
from tenants.files.locations import Folder, MissingFromPlace, PlaceError, place_at
from tenants.models import (
    Backup,
    BackupStatus,
    BaseBackup,
    DatabaseServer,
    Erasure,
    OperationStatus,
    Tenant,
    TenantStatus,
    database_prefix,
)
from tenants.naming import work_name
from tenants.pitr.dead_rows import control_system_identifier
from tenants.pitr.wal_archive import wal_archive_read
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession


@dataclass
class ErasureCheck:
    """What was found of one erasure."""

    tenant_id: str
    completed_at: datetime | None
    # What contradicts the certificate: one sentence each; [] where it holds.
    problems: list[str] = field(default_factory=list)
    # What is left as the certificate says, such as what goes with the retention.
    remaining: list[str] = field(default_factory=list)
    # Where something of it might be, and could not be looked for.
    unseen: list[str] = field(default_factory=list)


def erasures_verify(*, tenant_id: str | None = None) -> list[ErasureCheck]:
    """Look again for what the erasure of that tenant, or of every one, has removed. Raises `UnknownErasure`.

    Looked through: the tenant's row, databases and roles on every server, storage with versions, the places of its
    backups, messages and cache, the archived audit log, the certificate, base backups and write-ahead logs.
    """
    rows = [erasure_get(tenant_id)] if tenant_id else list(erasures())
    return [_verify(row) for row in rows]


def _verify(row: Erasure) -> ErasureCheck:
    check = ErasureCheck(row.tenant_id, row.completed_at)
    if row.operation.status != OperationStatus.COMPLETED or row.certificate is None:
        check.problems.append(_("The deletion is not over; `seo-gen tenant recover` goes on with it."))
    else:
        for look in LOOKS:
            try:
                check.problems += look(row, check)
            except SeoGenError as error:
                check.problems.append(str(error))
        _physical(row, row.certificate["remains"]["physical"], check)
        _superseded(row, check)
    with transaction.atomic(using=CONTROL):
        record(
            using=CONTROL,
            action="erasure.verify",
            resource_type="tenant",
            resource_id=row.tenant_id,
            details={"operation": str(row.pk), "problems": len(check.problems), "remaining": len(check.remaining)},
        )
    return check


def _certificate(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    """The certificate is what it was, by the control database's chained log."""
    entry = _entry("tenant.delete.complete", row.tenant_id)
    assert row.certificate is not None
    if not entry or not (entry["certificate"] == row.digest == digest_of(row.certificate)):
        yield _("The certificate is not the one that was written: its sha256 differs from the audit log's.")


def _archived_log(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    assert row.certificate is not None
    kept = row.certificate["remains"]["audit"]
    if kept["entries"] is None:
        return
    archive = AuditArchive.objects.using(CONTROL).filter(identity=row.identity).first()
    entry = _entry("audit.archive", row.tenant_id)
    if archive is None:
        yield _("The archived audit log is gone.")
    elif not entry or not (entry["digest"] == archive.digest == kept["digest"]):
        yield _("The archived audit log is not the one that the certificate names.")
    elif problem := archive_problem(archive):
        yield problem


def _row(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    tenant = Tenant.objects.using(CONTROL).filter(pk=row.tenant_id).first()
    if tenant is None:
        yield _("Its tombstone is gone, so its id could be given again.")
    elif tenant.status != TenantStatus.DELETED or tenant.database_url:
        yield _("The tenant has a database again, or its credentials.")
    returned = ControlAuditLog.objects.using(CONTROL).filter(
        action="tenant.erased.return", resource_type="tenant", resource_id=row.tenant_id
    )
    for details in returned.values_list("details", flat=True):
        new_id = (details or {}).get("new_id")
        if Tenant.objects.using(CONTROL).filter(pk=new_id).exclude(status=TenantStatus.DELETED).exists():
            yield _("Its data came back as tenant %(id)s, for this reason: %(reason)s") % {
                "id": new_id,
                "reason": (details or {}).get("reason"),
            }


def _storage(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    held = storage_held(row.tenant_id)
    if held.versions:
        yield ngettext(
            "There is %(count)d version of a file beneath its prefix in the storage.",
            "There are %(count)d versions of files beneath its prefix in the storage.",
            held.versions,
        ) % {"count": held.versions}


def _backups(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Those that the catalogue knows, and whatever else is called like a backup of the tenant's in their places."""
    known = Backup.objects.using(CONTROL).filter(tenant_id=row.tenant_id)
    for backup in known:
        found = is_there(backup)
        file = f"{backup.place}/{backup.name}"
        if found:
            yield _("%(file)s is there.") % {"file": file}
        elif found is None and backup.status != BackupStatus.REMOVED:
            # The certificate names it.
            check.remaining.append(_("%(file)s was not removed, and its place cannot be reached.") % {"file": file})
    # Another tenant's id may begin like this one's.
    named = re.compile(rf"{re.escape(row.tenant_id)}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{8}}\..*")
    catalogued = {(backup.place, name) for backup in known for name in names_of(backup)}
    for url in sorted(set(Backup.objects.using(CONTROL).values_list("place", flat=True))):
        try:
            names = _names(url, f"{row.tenant_id}-")
        except PlaceError as error:
            check.unseen.append(error.message)
            continue
        for name in names:
            if named.fullmatch(name) and (url, name) not in catalogued:
                yield _("%(file)s is there, and no catalogue has it.") % {"file": f"{url}/{name}"}


def _files(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Files that people gave: those that were removed stay away; the others are left, as certified, while they are."""
    assert row.certificate is not None and row.completed_at is not None
    removed = {one["file"] for one in row.certificate["erased"].get("files", [])}
    named = {one["file"] for one in (row.certificate["remains"].get("files") or {"files": []})["files"]}
    for file in files_held(row.tenant_id, row.identity):
        if file.state == OUT_OF_REACH:
            check.unseen.append(_("%(file)s, which was read for it, cannot be checked.") % {"file": file.file})
        if file.state != THERE:
            continue
        if file.file in removed:
            yield _("%(file)s is there.") % {"file": file.file}
        elif file.file in named:
            check.remaining.append(_("%(file)s, which was read for it, is there.") % {"file": file.file})
        else:
            yield _("%(file)s, which was read for it, is there, and the certificate does not name it.") % {
                "file": file.file
            }


def _names(url: str, prefix: str) -> list[str]:
    """Return the names in the place; one that does not exist holds nothing."""
    place = place_at(url)
    try:
        return list(place.names(prefix)) if not isinstance(place, Folder) or place.exists() else []
    except MissingFromPlace:
        return []


def _databases(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """On every server, its own or not: a database may have been copied by hand. Those of others are not entered."""
    names = list(database_names(row.tenant_id, row.database))
    for server in DatabaseServer.objects.using(CONTROL).order_by("name"):
        try:
            with ServerSession(server, database_prefix(), work_name("verify", row.identity)) as server_session:
                for name in server_session.database_bytes(names):
                    yield _("There is a database %(name)s on server %(server)s.") % {
                        "name": name,
                        "server": server.name,
                    }
                if server_session.role_exists(row.role):
                    yield _("There is a role %(name)s on server %(server)s.") % {
                        "name": row.role,
                        "server": server.name,
                    }
                found, unseen = databases_saying(server_session, row.identity, but=_known_databases(server))
                if unseen:
                    check.unseen.append(
                        _("databases of others on server %(server)s: %(names)s")
                        % {"server": server.name, "names": ", ".join(unseen)}
                    )
                for name in found:
                    yield _("The database %(name)s on server %(server)s says that it is the tenant's.") % {
                        "name": name,
                        "server": server.name,
                    }
        except ServerError as error:
            yield str(error)


def _known_databases(server: DatabaseServer) -> set[str]:
    """Return those that belong to other tenants, whose identity is checked whenever they are used."""
    tenants = Tenant.objects.using(CONTROL).filter(server=server)
    return {database_of(tenant) for tenant in tenants}


def _messages(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    count = contents().count_messages(row.tenant_id)
    if count is None:
        check.unseen.append(_("The broker does not show its messages; those about a tenant hold only ids."))
    if count:
        yield ngettext(
            "The broker holds %(count)d message about it.", "The broker holds %(count)d messages about it.", count
        ) % {"count": count}
    keys = cached_keys(row.tenant_id)
    if keys:
        yield ngettext("The cache holds %(count)d key of it.", "The cache holds %(count)d keys of it.", len(keys)) % {
            "count": len(keys)
        }


LOOKS = (_certificate, _archived_log, _row, _storage, _backups, _files, _databases, _messages)


def _physical(row: Erasure, promised: dict[str, Any], check: ErasureCheck) -> None:
    """Say what of base backups and logs is left; that is a problem only when its time is over."""
    over = timezone.now() > datetime.fromisoformat(promised["until"])
    target = check.problems if over else check.remaining
    ids = [one["id"] for one in promised["base_backups"]]
    kept = BaseBackup.objects.using(CONTROL).filter(pk__in=ids).exclude(status=BackupStatus.REMOVED)
    target += [_("The base backup %(name)s still holds its databases.") % {"name": backup.name} for backup in kept]
    place = row.certificate["erased"]["storage"]["place"] if row.certificate else ""
    if place != tenant_storage.place_of(row.tenant_id):
        check.remaining.append(_("The storage is another one now; %(place)s was not looked at.") % {"place": place})
    server = DatabaseServer.objects.using(CONTROL).filter(pk=promised["server"]).first()
    if server is None:
        check.remaining.append(
            _("Server %(name)s is not registered any more: what its own files, logs and backups hold is not known.")
            % {"name": promised["server"]}
        )
        return
    try:
        target += _logs(server, promised["wal_until_segment"])
    except SeoGenError as error:
        check.problems.append(str(error))


def _superseded(row: Erasure, check: ErasureCheck) -> None:
    """Say where former rows of the control database may still be; the registered servers are asked which has it."""
    if row.rewritten_at is None:
        check.remaining.append(_("The files of the control database's tables were not rewritten yet."))
    gone = (BackupStatus.REMOVED, BackupStatus.FAILED)
    assert row.certificate is not None
    named = [one["id"] for one in row.certificate["remains"]["physical"]["base_backups"]]
    for server in _servers_of_control():
        backups = BaseBackup.objects.using(CONTROL).filter(server=server).exclude(status__in=gone).exclude(pk__in=named)
        if row.rewritten_at is not None:
            backups = backups.filter(started_at__lt=row.rewritten_at)
        check.remaining += [
            _("The base backup %(name)s may hold former rows of the control database about it.") % {"name": one.name}
            for one in backups
        ]
        if row.rewritten_segment:
            check.remaining += [one for one in _logs(server, row.rewritten_segment) if one not in check.remaining]


def _servers_of_control() -> Iterator[DatabaseServer]:
    identifier = control_system_identifier()
    for server in DatabaseServer.objects.using(CONTROL):
        # One that is away was told of.
        with suppress(ServerError), ServerSession(server, database_prefix()) as server_session:
            if server_session.facts().system_identifier == identifier:
                yield server


def _logs(server: DatabaseServer, last: str) -> Iterator[str]:
    """Timelines apart, the names of segments sort like their positions."""
    if server.wal_archive:
        archive = wal_archive_read(place_at(server.wal_archive))
        count = sum(1 for segment in archive.segments if segment.number <= archive.number(last))
        if count:
            yield ngettext(
                "%(count)d archived segment of the log of server %(name)s still holds what was written to it.",
                "%(count)d archived segments of the log of server %(name)s still hold what was written to it.",
                count,
            ) % {"count": count, "name": server.name}
    elif server.wal_restore_command:
        yield _("The log of server %(name)s is archived by another tool, whose retention decides.") % {
            "name": server.name
        }
    with ServerSession(server, database_prefix()) as server_session:
        oldest = server_session.oldest_segment()
        if oldest is not None and oldest[8:] <= last[8:]:
            yield _(
                "The log of server %(name)s itself still holds what was written to it, until its next checkpoints."
            ) % {"name": server.name}


def _entry(action: str, tenant_id: str) -> dict[str, Any] | None:
    entries = ControlAuditLog.objects.using(CONTROL).filter(
        action=action, resource_type="tenant", resource_id=tenant_id
    )
    found: dict[str, Any] | None = entries.order_by("-sequence").values_list("details", flat=True).first()
    return found
