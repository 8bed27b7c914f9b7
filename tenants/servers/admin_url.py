"""Validate the administrator's URL of a database server, whose only parameters may be TLS settings.

libpq accepts many more parameters: another host, a service file, a password file, session options. With these, anyone
who can enter a URL could choose what this machine reads and where it connects, whatever host the URL shows.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from django.utils.translation import gettext as _

from tenants.errors import ServerError

SCHEMES = ("postgresql://", "postgres://")
TLS_PARAMETERS = (
    *("sslmode", "sslnegotiation", "sslrootcert", "sslcrl", "sslcert", "sslkey"),
    *("ssl_min_protocol_version", "channel_binding"),
)
_NOT_PLAIN = re.compile(r"[\x00-\x20\x7f\\#]")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
# An error names a parameter only if it looks like one; otherwise it could be part of the password.
_PARAMETER = re.compile("[a-z_]{3,30}")


class ServerURLRefused(ServerError):
    """An administrator's URL was rejected. The message never repeats the URL, which holds a password."""

    code = "server_url_refused"


def require_server_url(url: str) -> None:
    """Raise `ServerURLRefused` unless `url` is a PostgreSQL URL with a host, whose only parameters are TLS settings."""
    if not url.startswith(SCHEMES):
        raise ServerURLRefused(_("The administrator's URL must start with postgresql:// or postgres://."))
    if _NOT_PLAIN.search(url):
        raise ServerURLRefused(
            _("The administrator's URL contains a space, a #, a backslash or a control character."),
            hint=_("Remove the character, or percent-encode it (# is %23)."),
        )
    if _BAD_ESCAPE.search(url):
        raise ServerURLRefused(
            _("In the administrator's URL, % must be followed by two hexadecimal digits, as in %40.")
        )
    if not _has_host(url):
        raise ServerURLRefused(_("The administrator's URL has no valid host."))
    for name in parameters(url):
        if name not in TLS_PARAMETERS:
            raise ServerURLRefused(
                _("The administrator's URL contains an unsupported parameter: %(name)s.")
                % {"name": name if _PARAMETER.fullmatch(name) else "****"},
                hint=_("Supported parameters: %(names)s.") % {"names": ", ".join(TLS_PARAMETERS)},
            )


def parameters(url: str) -> list[str]:
    """Return the parameter names as libpq reads them: decoded, including names without a value."""
    return [name for name, _value in parse_qsl(urlsplit(url).query, keep_blank_values=True)]


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # an IPv6 address without its closing bracket
        return False
