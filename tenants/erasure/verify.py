"""Verify that erasures still hold: search again for the tenants' data."""

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

# Base backups of which no file is left: the files of one that fails are removed before it is recorded as failed.
WITHOUT_FILES = (BackupStatus.REMOVED, BackupStatus.FAILED)


@dataclass
class ErasureCheck:
    """The findings for one erasure."""

    tenant_id: str
    completed_at: datetime | None
    # What contradicts the certificate, one sentence each; [] if the erasure holds.
    problems: list[str] = field(default_factory=list)
    # What remains as certified, such as base backups within their retention period.
    remaining: list[str] = field(default_factory=list)
    # What could not be checked.
    unseen: list[str] = field(default_factory=list)


def erasures_verify(*, tenant_id: str | None = None) -> list[ErasureCheck]:
    """Check whether the tenant's erasure, or every erasure, still holds; return the findings.

    Checks the tenant's row, databases and roles on every server, storage with versions, all locations of backups, files
    that were read for it, messages and cache, summaries of runs and costs, the archived audit log, the certificate,
    base backups and WAL, and old versions of the control database's rows. Writes an audit entry about each erasure.
    Raises `UnknownErasure`.
    """
    rows = [erasure_get(tenant_id)] if tenant_id else list(erasures())
    return [_verify(row) for row in rows]


def _verify(row: Erasure) -> ErasureCheck:
    check = ErasureCheck(row.tenant_id, row.completed_at)
    if row.operation.status != OperationStatus.COMPLETED or row.certificate is None:
        check.problems.append(_("The deletion has not finished; `seo-gen tenant recover` continues it."))
    else:
        for look in LOOKS:
            try:
                check.problems += look(row, check)
            except SeoGenError as error:
                check.problems.append(str(error))
        check.problems = list(dict.fromkeys(check.problems))  # several looks may need the same server
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
    """Compare the certificate with the control database's audit log."""
    entry = _entry("tenant.delete.complete", row.tenant_id)
    assert row.certificate is not None
    if not entry:
        yield _("The control log has no entry about the completion of this erasure.")
    elif not (entry["certificate"] == row.digest == digest_of(row.certificate)):
        yield _("The certificate, or its sha256 in the ledger, does not match the control log.")


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
        yield _("The archived audit log does not match the certificate and the control log.")
    elif problem := archive_problem(archive):
        yield problem


def _row(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    tenant = Tenant.objects.using(CONTROL).filter(pk=row.tenant_id).first()
    if tenant is None:
        yield _("The tombstone is gone, so the id could be reused.")
    elif tenant.status != TenantStatus.DELETED or tenant.database_url:
        yield _("The tombstone was changed: it has a status other than “deleted”, or a database URL.")
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
            "The storage holds %(count)d file version under the tenant's prefix.",
            "The storage holds %(count)d file versions under the tenant's prefix.",
            held.versions,
        ) % {"count": held.versions}


def _backups(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Check the tenant's backups in the catalogue, and all catalogued locations for files that are named like them."""
    known = Backup.objects.using(CONTROL).filter(tenant_id=row.tenant_id)
    for backup in known:
        found = is_there(backup)
        file = f"{backup.place}/{backup.name}"
        if found:
            yield _("Files of %(file)s, or older versions of them, exist.") % {"file": file}
        elif found is None and backup.status != BackupStatus.REMOVED:
            # Not a problem, since the certificate lists it.
            check.remaining.append(_("%(file)s was not removed, and cannot be checked.") % {"file": file})
    # Another tenant's id may start with this tenant's id.
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
                yield _("%(file)s exists, but is not in the catalogue.") % {"file": f"{url}/{name}"}


def _files(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Check the supplied files: removed ones must not be back; the others may remain, as certified."""
    assert row.certificate is not None and row.completed_at is not None
    removed = {one["file"] for one in row.certificate["erased"].get("files", [])}
    named = {one["file"] for one in (row.certificate["remains"].get("files") or {"files": []})["files"]}
    for file in files_held(row.tenant_id, row.identity):
        if file.state == OUT_OF_REACH:
            check.unseen.append(_("%(file)s, which was read for this tenant, cannot be checked.") % {"file": file.file})
        if file.state != THERE:
            continue
        if file.file in removed:
            yield _("%(file)s exists again after the erasure removed it.") % {"file": file.file}
        elif file.file in named:
            check.remaining.append(_("%(file)s, which was read for this tenant, still exists.") % {"file": file.file})
        else:
            yield _("%(file)s, which was read for this tenant, still exists, but is not listed in the certificate.") % {
                "file": file.file
            }


def _names(url: str, prefix: str) -> list[str]:
    """Return the names in the place that begin with `prefix`; [] if the place does not exist."""
    place = place_at(url)
    try:
        return list(place.names(prefix)) if not isinstance(place, Folder) or place.exists() else []
    except MissingFromPlace:
        return []


def _databases(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Check every server, since a database may have been copied by hand. Other owners' databases are not opened."""
    names = list(database_names(row.tenant_id, row.database))
    for server in DatabaseServer.objects.using(CONTROL).order_by("name"):
        try:
            with ServerSession(server, database_prefix(), work_name("verify", row.identity)) as server_session:
                for name in server_session.database_bytes(names):
                    yield _("Database %(name)s exists on server %(server)s.") % {
                        "name": name,
                        "server": server.name,
                    }
                if server_session.role_exists(row.role):
                    yield _("Role %(name)s exists on server %(server)s.") % {
                        "name": row.role,
                        "server": server.name,
                    }
                found, unseen = databases_saying(server_session, row.identity, but=_known_databases(server))
                if unseen:
                    check.unseen.append(
                        _("On server %(server)s, these databases belong to other roles or cannot be read: %(names)s.")
                        % {"server": server.name, "names": ", ".join(unseen)}
                    )
                for name in found:
                    yield _("Database %(name)s on server %(server)s has this tenant's identity.") % {
                        "name": name,
                        "server": server.name,
                    }
        except ServerError as error:
            yield str(error)


def _known_databases(server: DatabaseServer) -> set[str]:
    """Return the names of tenants' databases on the server; their identities are checked at every use, not here."""
    tenants = Tenant.objects.using(CONTROL).filter(server=server)
    return {database_of(tenant) for tenant in tenants}


def _messages(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    count = contents().count_messages(row.tenant_id)
    if count is None:
        check.unseen.append(_("The broker cannot list its messages; messages about a tenant contain only ids."))
    if count:
        yield ngettext(
            "The queues still contain %(count)d message or step of the tenant.",
            "The queues still contain %(count)d messages or steps of the tenant.",
            count,
        ) % {"count": count}
    keys = cached_keys(row.tenant_id)
    if keys:
        yield ngettext(
            "The cache still has %(count)d of the tenant's keys.",
            "The cache still has %(count)d of the tenant's keys.",
            len(keys),
        ) % {"count": len(keys)}


def _summaries(row: Erasure, _check: ErasureCheck) -> Iterator[str]:
    count = contents().count_summaries(row.tenant_id)
    if count:
        yield ngettext(
            "The control database holds %(count)d row about the tenant's runs and costs.",
            "The control database holds %(count)d rows about the tenant's runs and costs.",
            count,
        ) % {"count": count}


def _physical(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Check the base backups and WAL that remain; they are a problem only after their retention period."""
    assert row.certificate is not None
    promised = row.certificate["remains"]["physical"]
    over = timezone.now() > datetime.fromisoformat(promised["until"])
    place = row.certificate["erased"]["storage"]["place"]
    if place != tenant_storage.place_of(row.tenant_id):
        check.unseen.append(
            _("The storage setting has changed since the erasure, so %(place)s was not checked.") % {"place": place}
        )
    server = DatabaseServer.objects.using(CONTROL).filter(pk=promised["server"]).first()
    if server is None:
        check.unseen.append(
            _("Server %(name)s is no longer registered, so it is unknown what its files, logs and backups contain.")
            % {"name": promised["server"]}
        )
    else:
        check.unseen += _archived_elsewhere(server)
    for sentence in _still_there(promised, server):
        if over:
            yield sentence
        else:
            check.remaining.append(sentence)


def _still_there(promised: dict[str, Any], server: DatabaseServer | None) -> Iterator[str]:
    ids = [one["id"] for one in promised["base_backups"]]
    for backup in BaseBackup.objects.using(CONTROL).filter(pk__in=ids).exclude(status__in=WITHOUT_FILES):
        yield _("Base backup %(name)s may still contain the tenant's databases.") % {"name": backup.name}
    if server is not None:
        yield from _logs(server, promised["wal_until_segment"])


def _superseded(row: Erasure, check: ErasureCheck) -> Iterator[str]:
    """Check where old versions of the control database's rows may remain.

    Base backups and WAL are checked only if that database is on a registered server.
    """
    if row.rewritten_at is None:
        check.remaining.append(
            _(
                "Files of the control database may still contain old versions of its rows about the tenant, until"
                " `seo-gen backup prune` rewrites them."
            )
        )
    assert row.certificate is not None
    named = [one["id"] for one in row.certificate["remains"]["physical"]["base_backups"]]
    for server in _servers_of_control():
        backups = BaseBackup.objects.using(CONTROL).filter(server=server).exclude(status__in=WITHOUT_FILES)
        backups = backups.exclude(pk__in=named)
        if row.rewritten_at is not None:
            backups = backups.filter(started_at__lt=row.rewritten_at)
        check.remaining += [
            _("Base backup %(name)s may contain old versions of the control database's rows about the tenant.")
            % {"name": one.name}
            for one in backups
        ]
        if row.rewritten_segment:
            check.unseen += [one for one in _archived_elsewhere(server) if one not in check.unseen]
            try:
                logs = list(_logs(server, row.rewritten_segment))
            except SeoGenError as error:
                yield str(error)
            else:
                check.remaining += [one for one in logs if one not in check.remaining]


def _servers_of_control() -> Iterator[DatabaseServer]:
    identifier = control_system_identifier()
    for server in DatabaseServer.objects.using(CONTROL):
        # A server that is down has already been reported.
        with suppress(ServerError), ServerSession(server, database_prefix()) as server_session:
            if server_session.facts().system_identifier == identifier:
                yield server


def _archived_elsewhere(server: DatabaseServer) -> list[str]:
    """Return a sentence if another tool archives the server's WAL: we cannot read its archive."""
    if server.wal_archive or not server.wal_restore_command:
        return []
    text = _("Another tool archives the WAL of server %(name)s; that tool's retention applies.")
    return [text % {"name": server.name}]


def _logs(server: DatabaseServer, last: str) -> Iterator[str]:
    """Yield a sentence about each place where WAL up to segment `last` may remain.

    Apart from the timeline, segment names sort by position.
    """
    if server.wal_archive:
        archive = wal_archive_read(place_at(server.wal_archive))
        count = sum(1 for segment in archive.segments if segment.number <= archive.number(last))
        if count:
            yield ngettext(
                "%(count)d archived WAL segment of server %(name)s may still contain the tenant's changes.",
                "%(count)d archived WAL segments of server %(name)s may still contain the tenant's changes.",
                count,
            ) % {"count": count, "name": server.name}
    with ServerSession(server, database_prefix()) as server_session:
        oldest = server_session.oldest_segment()
        if oldest is not None and oldest[8:] <= last[8:]:
            yield _(
                "The live WAL of server %(name)s may contain the tenant's changes until the"
                " server has completed its next checkpoints."
            ) % {"name": server.name}


def _entry(action: str, tenant_id: str) -> dict[str, Any] | None:
    entries = ControlAuditLog.objects.using(CONTROL).filter(
        action=action, resource_type="tenant", resource_id=tenant_id
    )
    found: dict[str, Any] | None = entries.order_by("-sequence").values_list("details", flat=True).first()
    return found


LOOKS = (
    *(_certificate, _archived_log, _row, _storage, _backups, _files, _databases, _messages, _summaries, _physical),
    _superseded,
)
