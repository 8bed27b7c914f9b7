"""Whether the product kept to its rights: every login is in the log of the servers that the tests start."""

from __future__ import annotations

import re

from config import stack
from config.stack import postgres
from tests import superuser

LOGIN = re.compile(
    r"connection authorized: user=(?P<user>\S+)"
    r"(?: database=(?P<database>\S+))?(?: application_name=(?P<application>.*))?"
)
# Who may log in as the superuser: the code that starts a server, and tests themselves, the latter also by a context of
# the product's ("test" is no work of its own).
ALLOWED = (postgres.APPLICATION, superuser.APPLICATION, "seo_gen test")


def overstepped(home: stack.Home) -> list[str]:
    """Return each kind of login that the product must not make on the server in that home."""
    log = home.log_file("postgres")
    logins = [
        LOGIN.search(line) for line in log.read_text(errors="replace").splitlines() if "authorized: user=" in line
    ]
    assert logins and all(logins), "the server does not log who connects"
    return sorted({found[0] for found in logins if found and _oversteps(found)})


def _oversteps(login: re.Match[str]) -> bool:
    if login["user"] == postgres.SUPERUSER:
        return login["application"] not in ALLOWED
    return login["user"] == postgres.ADMIN and login["database"] not in ("postgres", None)
