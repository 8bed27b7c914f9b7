"""Everything that needs the administrator's rights on a PostgreSQL server, through psycopg instead of Django.

Most methods can be repeated, so that an interrupted operation can run again: they keep what already exists, or bring
it to the desired state. Names go through `psycopg.sql.Identifier`; passwords reach the server only as verifiers.
"""

from tenants.servers.session.base import application_name
from tenants.servers.session.databases import Door
from tenants.servers.session.location import DatabaseLocation, bind_identity, owner_url, parse_location, with_password
from tenants.servers.session.locks import LockHolder, Locks, PreparedTransaction
from tenants.servers.session.logins import Login, wanted_settings
from tenants.servers.session.rights import FOR_RECOVERY, IDENTIFY, REPLICATION, RESERVED, MissingRight
from tenants.servers.session.wal import RECEIVER_SLOT, ArchiverState, ServerFacts
from tenants.servers.single_user import STANDALONE_SETTINGS, admit_reader, prepared_in, roll_back_prepared

__all__ = [
    "FOR_RECOVERY",
    "IDENTIFY",
    "RECEIVER_SLOT",
    "REPLICATION",
    "RESERVED",
    "STANDALONE_SETTINGS",
    "ArchiverState",
    "DatabaseLocation",
    "Door",
    "LockHolder",
    "Login",
    "MissingRight",
    "PreparedTransaction",
    "ServerFacts",
    "ServerSession",
    "admit_reader",
    "application_name",
    "bind_identity",
    "owner_url",
    "parse_location",
    "prepared_in",
    "roll_back_prepared",
    "wanted_settings",
    "with_password",
]


class ServerSession(Locks):
    """An administrator's session on one server, with all its operations."""
