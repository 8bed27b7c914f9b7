"""Copy the audit log of a tenant being erased, chain included, to the control database; check archived logs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import sql
from django.utils.translation import gettext as _

from audit.control.models import ArchivedAuditLog, AuditArchive
from audit.errors import ArchiveDiffers
from audit.log.chain_check import ChainHead, chain_head, genesis_of
from audit.log.chain_sql import HASHED_FIELDS
from audit.log.file_format import audit_lines, entry_hash, json_line, parse_line
from audit.log.safe_search_path import catalog_only

CONTROL = "default"
COLUMNS: LiteralString = (
    "sequence, previous_hash, entry_hash, created_at, user_id, action, resource_type, resource_id, details, "
    "operation_id"
)
READ: LiteralString = "COPY (SELECT {}, {}, " + COLUMNS + " FROM public.audit_logs ORDER BY sequence) TO STDOUT"
WRITE: LiteralString = "COPY public.archived_audit_logs (tenant_id, identity, " + COLUMNS + ") FROM STDIN"
LINES = f"""
SELECT {", ".join(field.replace("{row}", "entry") for field in HASHED_FIELDS)}, entry.entry_hash
  FROM public.archived_audit_logs AS entry WHERE entry.identity = %s ORDER BY entry.id
"""
BATCH = 2000


@dataclass(frozen=True)
class LogSummary:
    """The result of reading a log from beginning to end."""

    entries: int
    # The end of the chain, according to the last entry.
    head: ChainHead
    # The first entry that breaks the chain; None if the chain is intact.
    first_bad: int | None
    digest: str


def log_archive(source: BaseDatabaseWrapper, *, tenant_id: str, identity: UUID, chain_identity: UUID) -> AuditArchive:
    """Copy the tenant's log into the archive, compare the two, and close the archive of this log; return its row.

    Call this in a transaction on the control database, with the tenant's database closed to writers; `source` is a
    connection to that database as its owner. A broken log is archived unchanged. `first_bad` is then its first bad
    entry, or the number after its last entry if the chain's head does not match. Raises `ArchiveDiffers` if the copy
    differs from the original.
    """
    _copy(source, tenant_id, identity)
    here = log_summary(audit_lines(source), chain_identity)
    there = log_summary(archived_lines(identity), chain_identity)
    if here != there:
        raise ArchiveDiffers(tenant_id)
    head = chain_head(source)
    # If the head does not match, entries are missing after the last one, or the head itself was changed or removed.
    ends_well = head == here.head
    return AuditArchive.objects.using(CONTROL).create(
        tenant_id=tenant_id,
        identity=identity,
        chain_identity=chain_identity,
        entries=here.entries,
        head_hash=here.head.hash,
        first_bad=here.first_bad or (None if ends_well else here.entries + 1),
        digest=here.digest,
    )


def archived_lines(identity: UUID) -> Iterator[bytes]:
    """Yield an archived log's entries in the format of `audit.log.file_format.audit_lines`."""
    with connections[CONTROL].chunked_cursor() as cursor:
        cursor.execute(LINES, [identity])
        while rows := cursor.fetchmany(BATCH):
            for *fields, hash_of_entry in rows:
                yield json_line(fields, hash_of_entry)


def log_summary(lines: Iterator[bytes], chain_identity: UUID | str) -> LogSummary:
    """Return a summary of a log's lines, reading each once, in constant memory."""
    head = ChainHead(0, genesis_of(chain_identity))
    digest, entries, first_bad = hashlib.sha256(), 0, None
    for line in lines:
        digest.update(line)
        entries += 1
        fields, claimed = parse_line(line)
        follows = fields[:2] == [str(entries), head.hash] and entry_hash(fields) == claimed
        if first_bad is None and not follows:
            first_bad = entries
        head = ChainHead(int(fields[0] or 0), str(claimed))
    return LogSummary(entries, head, first_bad, digest.hexdigest())


def archive_problem(archive: AuditArchive) -> str:
    """Return what is wrong with an archived log, or "" if its entries match its summary. Ignores `head_hash`."""
    found = log_summary(archived_lines(archive.identity), archive.chain_identity)
    if found.digest != archive.digest or found.entries != archive.entries:
        if found.first_bad is not None and found.first_bad != archive.first_bad:
            return _("The archived audit log of %(tenant)s is broken at entry %(number)d.") % {
                "tenant": archive.tenant_id,
                "number": found.first_bad,
            }
        if found.entries == archive.entries:
            return _("The archived audit log of %(tenant)s does not match its summary.") % {"tenant": archive.tenant_id}
        return _(
            "The archived audit log of %(tenant)s does not match its summary. Entries according to the summary:"
            " %(kept)d; entries found: %(found)d."
        ) % {
            "tenant": archive.tenant_id,
            "found": found.entries,
            "kept": archive.entries,
        }
    if (found.first_bad or archive.entries + 1) != (archive.first_bad or archive.entries + 1):
        return _("The summary of the archived audit log of %(tenant)s was changed.") % {"tenant": archive.tenant_id}
    if (
        ArchivedAuditLog.objects.using(CONTROL)
        .filter(identity=archive.identity)
        .exclude(tenant_id=archive.tenant_id)
        .exists()
    ):
        return _("At least one entry of the archived audit log of %(tenant)s names another tenant.") % {
            "tenant": archive.tenant_id
        }
    return ""


def _copy(source: BaseDatabaseWrapper, tenant_id: str, identity: UUID) -> None:
    with catalog_only(source), source.cursor() as reading, connections[CONTROL].cursor() as writing:
        # COPY takes no parameters.
        read = sql.SQL(READ).format(sql.Literal(tenant_id), sql.Literal(str(identity)))
        # Django does not turn psycopg's errors into its own here.
        with source.wrap_database_errors, reading.copy(read) as blocks, writing.copy(WRITE) as copy:
            for block in blocks:
                copy.write(block)
