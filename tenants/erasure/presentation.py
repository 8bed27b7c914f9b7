"""Present erasures and their certificates, with the same wording for the commands and the admin page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.management.base import OutputWrapper
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.output import size
from tenants.erasure.certificate import CHANGED
from tenants.erasure.inventory import GONE, KEPT, LIVE, OUT_OF_REACH, SCRATCH, STREAM, THERE
from tenants.erasure.steps import AUDIT_LOSS, LOST_BACKUPS
from tenants.files.files_read import CLONE, DRILL, IMPORT, RESTORE, VERIFY
from tenants.models import BackupKind, Erasure, ErasurePhase

Certificate = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """One statement in a certificate."""

    label: str
    text: str
    # Sentences shown below the statement: reasons and conditions.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    title: str
    facts: list[Fact]


def erasure_document(row: Erasure) -> dict[str, Any]:
    """Return an erasure in the form that `--json` prints."""
    return {
        "operation": str(row.pk),
        "tenant_id": row.tenant_id,
        "identity": str(row.identity),
        "status": row.operation.status,
        "phase": row.phase,
        "by": row.operation.user_id,
        "started_at": row.operation.started_at,
        "completed_at": row.completed_at,
        "sha256": row.digest,
        "certificate": row.certificate,
    }


def print_certificate(document: dict[str, Any], out: OutputWrapper) -> None:
    """Print the certificate as text, or the progress of an unfinished erasure."""
    certificate = document["certificate"]
    if certificate is None:
        out.write(unfinished(document))
        return
    out.write(_("Certificate of erasure"))
    for section in certificate_sections(certificate):
        out.write(f"\n{section.title}")
        for fact in section.facts:
            out.write(f"  {fact.label}: {fact.text}")
            for note in fact.notes:
                out.write(f"    {note}")
    out.write("\n" + _("sha256 of this certificate: %(sha256)s") % document)


def unfinished(document: dict[str, Any]) -> str:
    return _(
        "The deletion of tenant %(tenant_id)s has not finished (%(phase)s); `seo-gen tenant recover` continues it."
    ) % {**document, "phase": ErasurePhase(document["phase"]).label}


def certificate_sections(certificate: Certificate) -> list[Section]:
    """Return the whole certificate in words, by section."""
    return [
        Section(_("The erasure"), list(_erasure(certificate))),
        Section(_("What was erased"), list(_erased(certificate["erased"]))),
        Section(_("What remains, and why"), list(_remains(certificate["remains"]))),
        Section(_("What backups of the whole server still hold, and until when"), list(_held(certificate["remains"]))),
    ]


def _erasure(certificate: Certificate) -> Iterator[Fact]:
    yield Fact(_("Tenant"), certificate["tenant_id"], (_("Identity: %(identity)s") % certificate,))
    yield Fact(_("Certificate"), certificate["certificate"], (_("Issued by %(product)s") % certificate,))
    yield Fact(
        _("Erasure requested"),
        _("%(time)s by %(by)s") % {"time": moment(certificate["requested_at"]), "by": certificate["requested_by"]},
    )
    accepted = {
        AUDIT_LOSS: _("It was accepted that the tenant's audit log may be broken or missing."),
        LOST_BACKUPS: _("It was accepted that backups may remain if they cannot be removed."),
    }
    yield Fact(
        _("Completed"),
        moment(certificate["completed_at"]),
        tuple(accepted[one] for one in certificate["accepted"]),
    )


def _erased(erased: Certificate) -> Iterator[Fact]:
    for one in erased["databases"]:
        yield Fact(
            _("Database"),
            _("%(name)s on server %(server)s, %(size)s")
            % {"name": one["name"], "server": erased["server"], "size": exactly(one["size_bytes"])},
            (_("was the live database") if one["kind"] == LIVE else kind_of(one["kind"]),),
        )
    if not erased["databases"]:
        yield Fact(_("Database"), _("none was left on server %(server)s") % erased)
    yield Fact(_("Rows"), _rows(erased["rows"]))
    yield Fact(_("Login role"), ", ".join(erased["roles"]))
    storage = erased["storage"]
    yield Fact(
        _("Files"),
        ngettext(
            "%(objects)d (%(versions)d version), %(size)s, in %(place)s",
            "%(objects)d (%(versions)d versions), %(size)s, in %(place)s",
            storage["versions"],
        )
        % {**storage, "size": exactly(storage["size_bytes"])},
        (_("sha256 of their list (path, version and size of each): %(list_sha256)s") % storage,),
    )
    for one in erased["backups"]:
        yield Fact(_("Export") if one["kind"] == BackupKind.EXPORT else _("Backup"), one["file"], _backup_notes(one))
    if not erased["backups"]:
        yield Fact(_("Backup"), _("none"))
    for one in erased.get("files", []):
        yield Fact(_("File read for this tenant"), one["file"], _file_notes(one))
    messages = erased["messages"]
    yield Fact(
        _("Queued messages and steps"), _("unknown: the broker cannot list them") if messages is None else str(messages)
    )
    yield Fact(_("Cache keys"), str(erased["cache_keys"]))
    yield Fact(_("Summaries of runs and costs"), str(erased.get("run_summaries", 0)))


def _remains(remains: Certificate) -> Iterator[Fact]:
    yield from _about_audit_log(remains["audit"])
    for one in (remains["backups"] or {"backups": []})["backups"]:
        yield Fact(_("Backup"), one["file"], (*_backup_notes(one), _translated(remains["backups"]["why"])))
    files = remains.get("files") or {"files": [], "why": ""}
    for one in files["files"]:
        yield Fact(_("File read for this tenant"), one["file"], (*_file_notes(one), _translated(files["why"])))
    streamed = remains.get("streamed") or {"files": [], "why": ""}
    for one in streamed["files"]:
        yield Fact(_("Standard output"), one["file"], (*_streamed_notes(one), _translated(streamed["why"])))
    copies = remains["copies"]
    if copies:
        yield Fact(_("Related tenants"), ", ".join(copies["tenants"]), (_translated(copies["why"]),))
    tombstone = remains["tombstone"]
    yield Fact(_("ID"), tombstone["tenant_id"], (_translated(tombstone["why"]),))
    yield Fact(_("Control database"), _("old versions of rows"), (_translated(remains["superseded"]["why"]),))


def _about_audit_log(audit: Certificate) -> Iterator[Fact]:
    if audit["entries"] is None:
        yield Fact(_("Audit log"), _("none: it could not be archived, which was accepted"))
    else:
        broken = (
            [_("It was already broken at entry %(first_bad)d, which was accepted.") % audit]
            if audit["first_bad"] is not None
            else []
        )
        yield Fact(
            _("Audit log"),
            ngettext(
                "%(entries)d entry, archived in the control database",
                "%(entries)d entries, archived in the control database",
                audit["entries"],
            )
            % audit,
            (
                _("Last hash: %(head_hash)s") % audit,
                _("sha256 of the entries: %(digest)s") % audit,
                *broken,
                _translated(audit["why"]),
            ),
        )
    yield Fact(
        _("Control log"),
        ngettext(
            "%(operators_entries)d entry about the tenant in the control database's own audit log",
            "%(operators_entries)d entries about the tenant in the control database's own audit log",
            audit["operators_entries"],
        )
        % audit,
    )


def _held(remains: Certificate) -> Iterator[Fact]:
    physical = remains["physical"]
    for one in physical["base_backups"]:
        yield Fact(_("Base backup"), one["path"], (_made(one["finished_at"]),))
    if not physical["base_backups"]:
        yield Fact(_("Base backup"), _("none of server %(server)s is known to the product") % physical)
    yield Fact(
        _("Write-ahead log"),
        _("of server %(server)s, up to segment %(wal_until_segment)s (%(wal_until_lsn)s)") % physical,
        tuple(_log_notes(physical)),
    )
    yield Fact(
        _("Until"),
        ngettext(
            "%(time)s (retention of %(days)d day)",
            "%(time)s (retention of %(days)d days)",
            physical["retention_days"],
        )
        % {"time": moment(physical["until"]), "days": physical["retention_days"]},
        (_translated(physical["why"]), _translated(physical["provided"])),
    )


def _log_notes(physical: Certificate) -> Iterator[str]:
    archive = physical["wal_archive"]
    yield (
        _("WAL archive, or the command that fetches from it: %(wal_archive)s") % physical
        if archive
        else _("Not archived, as far as the product knows")
    )
    if physical["restore_point"]:
        yield _("Restore point before the erasure: %(restore_point)s") % physical


def kind_of(kind: str) -> str:
    """Return what a tenant's database is or was used for; `tenants.erasure.inventory` defines the kinds."""
    return {
        LIVE: _("the live database"),
        KEPT: _("kept after a restore replaced it"),
        SCRATCH: _("left behind by a restore"),
    }[kind]


def _translated(text: str) -> str:
    """Translate a sentence from the certificate (`tenants.erasure.certificate`)."""
    return _(text)


def _rows(rows: dict[str, int]) -> str:
    if not rows:
        return _("not counted: the database was gone or could not be read")
    return ", ".join(f"{_named(table)} {count:,}" for table, count in sorted(rows.items()))


def _named(table: str) -> str:
    """Return what a table's rows are, followed by the table's name if that differs: "audit entries (audit_logs)"."""
    name = rows_of(table)
    return name if name == table else f"{name} ({table})"


def rows_of(table: str) -> str:
    """Return what the rows of a tenant's table are; for a table that only another release has, return its name."""
    names = {
        "artifacts": _("artifacts"),
        "audit_chain_heads": _("head of the audit log"),
        "audit_logs": _("audit entries"),
        "calls": _("calls"),
        "django_migrations": _("applied migrations"),
        "prompts": _("prompts"),
        "runs": _("runs"),
        "spending": _("months of spending"),
        "step_overrides": _("step overrides"),
        "steps": _("steps"),
        "tenant_identity": _("identity"),
    }
    return names.get(table, table)


def _backup_notes(backup: Certificate) -> tuple[str, ...]:
    """Return a backup's time, size and digest, and a note if its files did not exist."""
    facts = [_("begun at %(time)s") % {"time": moment(backup["made_at"])}]
    if backup["size_bytes"] is not None:
        facts.append(exactly(backup["size_bytes"]))
    if backup["is_there"] is False:
        facts.append(_("its files did not exist"))
    checksum = [_("sha256: %(sha256)s") % backup] if backup["sha256"] else []
    return (", ".join(facts), *checksum)


def _file_notes(file: Certificate) -> tuple[str, ...]:
    """Return why a supplied file was read, its size and digest, and what happened to it."""
    read = {
        RESTORE: _("read for a restore at %(time)s"),
        CLONE: _("read for a clone at %(time)s"),
        IMPORT: _("read for an import at %(time)s"),
        VERIFY: _("read for a verification at %(time)s"),
        DRILL: _("read for a drill at %(time)s"),
    }[file["purpose"]]
    facts = [read % {"time": moment(file["read_at"])}]
    if file["size_bytes"] is not None:
        facts.append(exactly(file["size_bytes"]))
    left = {
        None: "",
        THERE: _("It existed, and was not removed."),
        GONE: _("It no longer existed."),
        OUT_OF_REACH: _("It could not be checked or could not be removed."),
        STREAM: _("It came through a pipe; its source is unknown."),
        CHANGED: _("Another file was in its place, and was left alone."),
    }[file["left"]]
    unknown = _("sha256 unknown: the file was not read to the end")
    checksum = _("sha256: %(sha256)s") % file if file["sha256"] else unknown
    return (", ".join(facts), checksum, *([left] if left else []))


def _streamed_notes(file: Certificate) -> tuple[str, ...]:
    """Describe a backup or an export that was streamed to standard output: what it was, and when."""
    time = {"time": moment(file["read_at"])}
    facts = [
        _("exported at %(time)s") % time if file["purpose"] == BackupKind.EXPORT else _("dumped at %(time)s") % time
    ]
    if file["size_bytes"] is not None:
        facts.append(exactly(file["size_bytes"]))
    checksum = _("sha256: %(sha256)s") % file if file["sha256"] else _("sha256 unknown: the stream was interrupted")
    return (", ".join(facts), checksum)


def _made(text: str | None) -> str:
    return _("finished at %(time)s") % {"time": moment(text)} if text else _("unfinished")


def exactly(size_bytes: int) -> str:
    """Format a size with its exact number of bytes: "8.0 MiB (8,361,663 bytes)"."""
    count = ngettext("%(count)s byte", "%(count)s bytes", size_bytes) % {"count": f"{size_bytes:,}"}
    return count if size_bytes < 2**10 else f"{size(size_bytes)} ({count})"


def moment(text: str) -> str:
    return f"{localtime(datetime.fromisoformat(text)):%Y-%m-%d %H:%M:%S %z}"


def phase_name(value: object) -> object:
    """Return the words for the value of an `ErasurePhase`; any other value is returned unchanged."""
    return ErasurePhase(value).label if value in ErasurePhase.values else value
