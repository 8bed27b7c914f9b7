"""Keep the command with which another tool (pgBackRest, Barman, WAL-G) fetches a server's archived log.

The machine that recovers runs it in a shell. So it is set by an operator, who has a shell there already, and never in
the admin; and the audit entry does not repeat it, since such commands may hold credentials.
"""

from __future__ import annotations

import re

from django.db import transaction
from django.utils.translation import gettext as _

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.errors import ServerError
from tenants.models import DatabaseServer
from tenants.selectors import server_get

# PostgreSQL's documentation of restore_command: %f file, %p path, %r last restart point, %% itself.
_PLACEHOLDER = re.compile("%(.?)")


def cluster_set_restore_command(*, server_name: str, command: str) -> bool:
    """Set the server's restore command, or remove it where `command` is ""; return whether that changed anything.

    Raises `ServerError` where there is no such server, or the command could not fetch a segment.
    """
    server = server_get(server_name)
    if command:
        _require_usable(command)
    with transaction.atomic(using=CONTROL):
        others = DatabaseServer.objects.using(CONTROL).filter(pk=server.pk).exclude(wal_restore_command=command)
        changed = bool(others.update(wal_restore_command=command))
        if changed:
            record(
                using=CONTROL,
                action="server.change",
                resource_type="database_server",
                resource_id=server.pk,
                details={"fields": ["wal_restore_command"], "set": bool(command)},
            )
    return changed


def _require_usable(command: str) -> None:
    placeholders = _PLACEHOLDER.findall(command)
    if not {"f", "p"} <= set(placeholders) or set(placeholders) - {"f", "p", "r", "%"}:
        raise ServerError(
            _("The restore command must hold %f (the file wanted) and %p (where to put it), and no other codes."),
            hint=_('For example: pgbackrest --stanza=main archive-get %f "%p".'),
            code="restore_command_invalid",
        )
    if any(ord(character) < 0x20 for character in command):
        raise ServerError(
            _("The restore command must be one line without control characters."), code="restore_command_invalid"
        )
