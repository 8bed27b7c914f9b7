"""What an administrator's URL of a database server may say: who, where, and how TLS is done.

libpq takes much more from a URL: another host, a service file, a password file, options of the session. Whoever types
the URL would then choose what this machine reads and where it connects, whatever the visible part of the URL says.
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
# A refusal names a parameter only if it looks like one: it may be a part of the password.
_PARAMETER = re.compile("[a-z_]{3,30}")


class ServerURLRefused(ServerError):
    """An administrator's URL cannot be accepted. The URL is not repeated: it holds a password."""

    code = "server_url_refused"


def require_server_url(url: str) -> None:
    """Raise `ServerURLRefused` unless `url` is a PostgreSQL URL whose parameters are about TLS alone."""
    if not url.startswith(SCHEMES):
        raise ServerURLRefused(_("The administrator's URL must begin with postgresql://."))
    if _NOT_PLAIN.search(url):
        raise ServerURLRefused(
            _("The administrator's URL holds a blank, a #, a backslash or a control character."),
            hint=_("Write such a character as a code, such as %23 for #."),
        )
    if _BAD_ESCAPE.search(url):
        raise ServerURLRefused(_("A % in the administrator's URL must begin a code such as %40."))
    if not _has_host(url):
        raise ServerURLRefused(_("The administrator's URL names no host."))
    for name in parameters(url):
        if name not in TLS_PARAMETERS:
            raise ServerURLRefused(
                _("The administrator's URL has the parameter %(name)s, which is not accepted.")
                % {"name": name if _PARAMETER.fullmatch(name) else "****"},
                hint=_("Accepted are %(names)s.") % {"names": ", ".join(TLS_PARAMETERS)},
            )


def parameters(url: str) -> list[str]:
    """Return the names of the parameters as libpq reads them: decoded, and a name without a value too."""
    return [name for name, _value in parse_qsl(urlsplit(url).query, keep_blank_values=True)]


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # an IPv6 address without its bracket
        return False
