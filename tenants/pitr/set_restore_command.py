"""Store the command with which another tool (pgBackRest, Barman, WAL-G) fetches a server's archived WAL.

A restore runs the command in a shell on this machine. So it can be set only on the command line, by an operator who has
shell access here anyway, and not in the admin. The audit entry omits it, since such commands may contain credentials.
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

# As documented for PostgreSQL's restore_command: %f file, %p path, %r last restart point, %% a percent sign.
_PLACEHOLDER = re.compile("%(.?)")


def cluster_set_restore_command(*, server_name: str, command: str) -> bool:
    """Set the server's restore command, or remove it if `command` is ""; return whether it changed.

    Raises `ServerError` if there is no such server, or if the command is invalid.
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
            _(
                "The restore command must contain %f (the requested file) and %p (its target path)."
                " The only other placeholders allowed are %r and, for a percent sign, %%."
            ),
            hint=_('For example: pgbackrest --stanza=main archive-get %f "%p".'),
            code="restore_command_invalid",
        )
    if any(ord(character) < 0x20 for character in command):
        raise ServerError(
            _("The restore command must be one line without control characters."), code="restore_command_invalid"
        )
