"""How erasures and their certificates are shown by commands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import OutputWrapper
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from tenants.models import Erasure
from tenants.presentation import size


def erasure_document(row: Erasure) -> dict[str, Any]:
    """Return what `--json` says of an erasure."""
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
    """Print the certificate for people; of an erasure that is not over, how far it is."""
    certificate = document["certificate"]
    if certificate is None:
        out.write(
            _("The deletion of tenant %(tenant_id)s is not over (%(phase)s); `seo-gen tenant recover` goes on with it.")
            % document
        )
        return
    for line in certificate_lines(document):
        out.write(line)


def certificate_lines(document: dict[str, Any]) -> list[str]:
    certificate = document["certificate"]
    erased, remains = certificate["erased"], certificate["remains"]
    lines = [
        _("Certificate of erasure %(certificate)s") % certificate,
        _("Tenant %(tenant_id)s (%(identity)s) was erased.") % certificate,
        _("  requested %(time)s by %(by)s")
        % {"time": moment(certificate["requested_at"]), "by": certificate["requested_by"]},
        _("  completed %(time)s") % {"time": moment(certificate["completed_at"])},
        "",
        _("Erased:"),
        *(f"  {_('database')} {one['name']} ({one['kind']}, {size(one['size_bytes'])})" for one in erased["databases"]),
        _("  %(versions)d versions of %(objects)d files in %(place)s, %(size)s")
        % {**erased["storage"], "size": size(erased["storage"]["size_bytes"])},
        _("  sha256 of their list: %(list_sha256)s") % erased["storage"],
        *(f"  {one['kind']} {one['file']} ({backup_state(one)})" for one in erased["backups"]),
        _("  login role %(roles)s") % {"roles": ", ".join(erased["roles"])},
        _("  messages: %(messages)s, cache keys: %(cache_keys)s")
        % {"messages": counted(erased["messages"]), "cache_keys": erased["cache_keys"]},
        "",
        _("What remains, and why:"),
        *audit_lines(remains["audit"]),
    ]
    for part in (remains["backups"], remains["copies"]):
        if part:
            named = [one["file"] for one in part["backups"]] if "backups" in part else part["tenants"]
            lines += [f"  {', '.join(named)}", f"    {_(part['why'])}"]
    physical = remains["physical"]
    lines += [
        _("  base backups of server %(server)s: %(names)s")
        % {
            "server": physical["server"],
            "names": ", ".join(one["path"] for one in physical["base_backups"]) or _("none"),
        },
        _("  its write-ahead log up to segment %(segment)s, archived in %(archive)s")
        % {"segment": physical["wal_until_segment"], "archive": physical["wal_archive"] or "-"},
        _("    until %(time)s (retention of %(days)d days)")
        % {"time": moment(physical["until"]), "days": physical["retention_days"]},
        f"    {_(physical['why'])} {_(physical['provided'])}",
        f"  {_(remains['superseded']['why'])}",
        f"  {_(remains['tombstone']['why'])}",
        "",
        _("sha256 of this certificate: %(sha256)s") % document,
    ]
    return lines


def audit_lines(audit: dict[str, Any]) -> list[str]:
    if audit["entries"] is None:
        return [_("  no audit log: it was gone or could not be read, which the operator accepted")]
    lines = [_("  its audit log, %(entries)d entries, last hash %(head_hash)s") % audit, f"    {_(audit['why'])}"]
    if audit["first_bad"] is not None:
        lines.append(_("    It was broken at entry %(first_bad)d already, which the operator accepted.") % audit)
    return lines


def backup_state(backup: dict[str, Any]) -> str:
    """Say what became of it, and how large it was."""
    if backup["is_there"]:
        return size(backup["size_bytes"]) or _("unfinished")
    return _("its files were not there any more")


def counted(messages: int | None) -> str:
    return _("the broker does not show them") if messages is None else str(messages)


def moment(text: str) -> str:
    return f"{localtime(datetime.fromisoformat(text)):%Y-%m-%d %H:%M:%S %z}"
