"""What only an administrator of a PostgreSQL server can do. The one package with raw psycopg.

Every statement can be repeated: what is there already is left or brought to the wanted state, so that an operation that
was cut off can simply run again. Names go through `psycopg.sql.Identifier`; passwords reach the server as verifiers.
"""

from tenants.cluster.databases import Door
from tenants.cluster.location import DatabaseLocation, bind_identity, parse_location, with_password
from tenants.cluster.log import RECEIVER_SLOT, ArchiverState, Log, ServerFacts
from tenants.cluster.logins import Login, wanted_settings
from tenants.cluster.session import application_name

__all__ = [
    "RECEIVER_SLOT",
    "ArchiverState",
    "Cluster",
    "DatabaseLocation",
    "Door",
    "Login",
    "ServerFacts",
    "application_name",
    "bind_identity",
    "parse_location",
    "wanted_settings",
    "with_password",
]


class Cluster(Log):
    """An administrator's session on one server, with all that can be done there."""
