"""What a deletion will remove, in words: for the command and for the admin's page."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.output import size
from config.base.times import to_minute
from tenants.erasure.delete import Loss
from tenants.erasure.inventory import THERE
from tenants.erasure.presentation import kind_of, rows_of
from tenants.models import BackupKind


def loss_lines(loss: Loss) -> list[str]:
    """Return lines of text about what a deletion will remove, with sizes, and what it will keep."""
    lines = [_("Tenant %(id)s (%(name)s) will be erased permanently:") % {"id": loss.tenant_id, "name": loss.name}]
    lines += [f"  {_('database')} {one.name} ({kind_of(one.kind)}): {size(one.size_bytes)}" for one in loss.databases]
    if loss.rows:
        counts = ", ".join(f"{rows_of(table)} {n:,}" for table, n in _shown(loss.rows))
        lines.append("  " + _("rows: %(rows)s") % {"rows": counts})
    lines.append(
        "  "
        + ngettext(
            "files: %(objects)d (%(versions)d version), %(size)s",
            "files: %(objects)d (%(versions)d versions), %(size)s",
            loss.storage.versions,
        )
        % {
            "objects": loss.storage.objects,
            "versions": loss.storage.versions,
            "size": size(loss.storage.size_bytes),
        }
    )
    lines += [f"  {BackupKind(one.kind).label} {one.file}: {size(one.size_bytes)}" for one in loss.backups]
    lines += [
        "  "
        + (
            _("file %(file)s, which was read for this tenant")
            if one.goes
            else _(
                "not removed: file %(file)s, which was read for this tenant; delete it yourself if it contains the"
                " tenant's data"
            )
        )
        % {"file": one.file}
        for one in loss.files
        if one.state == THERE
    ]
    if loss.at_work:
        lines.append("  " + _("runs in progress: %(count)d") % {"count": len(loss.at_work)})
    lines.append(
        _("Its last backup (%(time)s) will be deleted too.") % {"time": to_minute(loss.last_backup_at)}
        if loss.last_backup_at
        else _("It has no completed backup.")
    )
    lines.append(_audit_log(loss.rows))
    return lines


def _audit_log(rows: dict[str, int]) -> str:
    if not rows:
        return _(
            "Its database is gone or cannot be read, so its rows cannot be counted, and its audit log may be lost."
        )
    entries = rows.get("audit_logs", 0)
    kept = ngettext("Its audit log (%(count)d entry) is kept.", "Its audit log (%(count)d entries) is kept.", entries)
    return kept % {"count": entries}


def _shown(rows: dict[str, int]) -> list[tuple[str, int]]:
    """Return (table, rows) for the tables that operators know."""
    return [(table, rows[table]) for table in ("runs", "steps", "artifacts", "prompts") if table in rows]
