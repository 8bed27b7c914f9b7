"""Keep the audit log of a tenant that is erased, chain included, in the control database; and check it there."""

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
from django.utils.translation import ngettext

from audit.control.models import ArchivedAuditLog, AuditArchive
from audit.errors import ArchiveDiffers
from audit.log.chain import ChainHead, chain_head, genesis_of
from audit.log.file_format import audit_lines, entry_hash, json_line, parse_line
from audit.log.guards import HASHED_FIELDS
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
    """A log read from its beginning to its end."""

    entries: int
    # Where its chain ends, going by the last entry's own claim.
    head: ChainHead
    # The first entry that does not follow from those before it; None where all do.
    first_bad: int | None
    digest: str


def log_archive(source: BaseDatabaseWrapper, *, tenant_id: str, identity: UUID, chain_identity: UUID) -> AuditArchive:
    """Copy the tenant's log into the archive, compare the two, and close the archive to further entries.

    Call it in a transaction of the control database's, with the tenant's database closed to writers; `source` is a
    connection to that as its owner. A log that is broken is kept as it is, and `first_bad` says where. Raises
    `ArchiveDiffers` where the copy is not what was read, or the log does not end where its head says.
    """
    _copy(source, tenant_id, identity)
    here = log_summary(audit_lines(source), chain_identity)
    there = log_summary(archived_lines(identity), chain_identity)
    if here != there:
        raise ArchiveDiffers(tenant_id, _("the copy of its audit log is not what was read"))
    head = chain_head(source)
    # A broken head stands for entries that are gone.
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
    """Yield an archived log's entries as `audit.archive.audit_lines` does a live one's."""
    with connections[CONTROL].chunked_cursor() as cursor:
        cursor.execute(LINES, [identity])
        while rows := cursor.fetchmany(BATCH):
            for *fields, hash_of_entry in rows:
                yield json_line(fields, hash_of_entry)


def log_summary(lines: Iterator[bytes], chain_identity: UUID | str) -> LogSummary:
    """Read a log's lines: constant memory, each once."""
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
    """Say what is wrong with an archived log, "" where it is as it was when it was archived."""
    found = log_summary(archived_lines(archive.identity), archive.chain_identity)
    if found.digest != archive.digest or found.entries != archive.entries:
        if found.first_bad is not None and found.first_bad != archive.first_bad:
            return _("the archived audit log of %(tenant)s is broken at entry %(number)d") % {
                "tenant": archive.tenant_id,
                "number": found.first_bad,
            }
        return ngettext(
            "the archived audit log of %(tenant)s is not what was archived: %(found)d of %(kept)d entry",
            "the archived audit log of %(tenant)s is not what was archived: %(found)d of %(kept)d entries",
            archive.entries,
        ) % {
            "tenant": archive.tenant_id,
            "found": found.entries,
            "kept": archive.entries,
        }
    if (found.first_bad or archive.entries + 1) != (archive.first_bad or archive.entries + 1):
        return _("the archived audit log of %(tenant)s does not begin with whose log it is said to be") % {
            "tenant": archive.tenant_id
        }
    if (
        ArchivedAuditLog.objects.using(CONTROL)
        .filter(identity=archive.identity)
        .exclude(tenant_id=archive.tenant_id)
        .exists()
    ):
        return _("entries of the archived audit log of %(tenant)s say that they are another's") % {
            "tenant": archive.tenant_id
        }
    return ""


def _copy(source: BaseDatabaseWrapper, tenant_id: str, identity: UUID) -> None:
    with catalog_only(source), source.cursor() as reading, connections[CONTROL].cursor() as writing:
        # COPY takes no parameters.
        read = sql.SQL(READ).format(sql.Literal(tenant_id), sql.Literal(str(identity)))
        with reading.copy(read) as blocks, writing.copy(WRITE) as copy:
            for block in blocks:
                copy.write(block)
