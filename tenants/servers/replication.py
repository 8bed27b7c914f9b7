"""What the programs need that connect to a server as a standby would (pg_basebackup, pg_receivewal)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from django.utils.translation import gettext as _

from tenants.models import DatabaseServer
from tenants.servers.programs import ToolError

# What every version says first.
NOT_LET_IN = "no pg_hba.conf entry for replication"


@contextmanager
def replicating(server: DatabaseServer) -> Iterator[None]:
    """Say which line is missing where the server's pg_hba.conf lets nobody replicate: "all" does not cover that."""
    try:
        yield
    except ToolError as error:
        if NOT_LET_IN not in error.message:
            raise
        role = unquote(urlsplit(server.admin_url).username or "")
        raise ToolError(
            error.message,
            hint=_("Add this line to its pg_hba.conf, with our address, and reload it: %(line)s")
            % {"line": f'host replication "{role}" ADDRESS scram-sha-256'},
            code="replication_not_allowed",
        ) from error
