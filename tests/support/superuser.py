"""The superuser of the tests' servers, which tests use to attack and to see everything. Our own roles may do less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from django.db.backends.base.base import BaseDatabaseWrapper

from config import stack
from config.stack.state import load_secrets, load_state

# Distinguishes these sessions from the product's (tests/support/privileges.py).
APPLICATION = "seo-gen tests"
# {port: password} of the servers that this process or its parent started.
_passwords: dict[int, str] = {}


def know(home: stack.Home) -> None:
    """Let tests connect to the server in that home as its superuser."""
    secrets = load_secrets(home)
    assert secrets is not None
    remember(load_state(home).services["postgres"].port, secrets.postgres_password)


def remember(port: int, password: str) -> None:
    _passwords[port] = password


def forget(port: int) -> None:
    """Make tests connect to the server at this port as the role in its URL."""
    _passwords.pop(port, None)


def superuser_url(url: str, database: str | None = None) -> str:
    """Return `url` with the superuser in place of its role, and with `database`, if given, in place of its database.

    The role stays if the superuser is unknown or the server is a scratch server.
    """
    parts = urlsplit(url)
    path = parts.path if database is None else f"/{quote(database, safe='')}"
    is_socket = parts.port is None or unquote(parts.hostname or "").startswith("/")
    if not is_socket and parts.port not in _passwords:
        know(stack.find_home())  # the session's own server, in a process that did not start it
    if is_socket or parts.port not in _passwords:
        return urlunsplit(parts._replace(path=path))
    query = f"application_name={quote(APPLICATION)}"
    return f"postgresql://postgres:{_passwords[parts.port]}@{parts.hostname}:{parts.port}{path}?{query}"


@contextmanager
def superuser_connection(url: str, database: str) -> Iterator[BaseDatabaseWrapper]:
    """Yield Django's connection to `database` as the superuser or, if the superuser's password is unknown, as the role
    in `url`.
    """
    from tenants.routing.owner_connection import SESSION, _connection

    with _connection(superuser_url(url, database), database, "test", SESSION) as connection:
        yield connection
