"""Replication connections of pg_basebackup and pg_receivewal: explain why a server refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from django.utils.translation import gettext as _

from tenants.models import DatabaseServer
from tenants.servers.programs import ToolError

# The start of the message in every version.
NOT_LET_IN = "no pg_hba.conf entry for replication"


@contextmanager
def replicating(server: DatabaseServer) -> Iterator[None]:
    """Give the error a hint and a code of its own if the block fails because pg_hba.conf has no line for replication.

    The hint contains the line. A line for the database "all" does not cover replication.
    """
    try:
        yield
    except ToolError as error:
        if NOT_LET_IN not in error.message:
            raise
        role = unquote(urlsplit(server.admin_url).username or "")
        raise ToolError(
            error.message,
            hint=_(
                "Add this line to the server's pg_hba.conf, with this machine's address in place of ADDRESS, then"
                " reload the server's configuration: %(line)s"
            )
            % {"line": f'host replication "{role}" ADDRESS scram-sha-256'},
            code="replication_not_allowed",
        ) from error
