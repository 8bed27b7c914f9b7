"""Check that the product stayed within its rights: the tests' servers log every login."""

from __future__ import annotations

import re

from config import stack
from config.stack import postgres
from tests.support import superuser

LOGIN = re.compile(
    r"connection authorized: user=(?P<user>\S+)"
    r"(?: database=(?P<database>\S+))?(?: application_name=(?P<application>.*))?"
)
# Who may log in as the superuser: the code that starts a server, and tests themselves, also through a context manager
# of the product (which never uses the name "test" itself).
ALLOWED = (postgres.APPLICATION, superuser.APPLICATION, "seo_gen test")


class Watch:
    """Reads a server's login log; each call covers only the logins since the previous one."""

    def __init__(self, home: stack.Home) -> None:
        self._log = home.log_file("postgres")
        self._position = 0
        self._seen = 0

    def overstepped(self) -> list[str]:
        """Return the distinct logins since the last call that the product may not make, as the log shows them."""
        with self._log.open("rb") as log:
            log.seek(self._position)
            # A line that is still being written is read with the next test.
            whole = [line for line in log if line.endswith(b"\n")]
        self._position += sum(map(len, whole))
        lines = [line.decode(errors="replace") for line in whole]
        logins = [LOGIN.search(line) for line in lines if "authorized: user=" in line]
        assert all(logins), "the server logs logins in a form that this does not read"
        self._seen += len(logins)
        return sorted({found[0] for found in logins if found and _oversteps(found)})

    def require_logins(self) -> None:
        assert self._seen, "the server does not log who connects"


def _oversteps(login: re.Match[str]) -> bool:
    if login["user"] == postgres.SUPERUSER:
        return login["application"] not in ALLOWED
    return login["user"] == postgres.ADMIN and login["database"] not in ("postgres", None)
