"""Connection parameters of every PostgreSQL session: how long it may wait, and how long it may make others wait.

They bound the delay that a frozen process, a lost machine or a stuck lock can cause. They are set on the connection, so
that neither PGOPTIONS nor the settings of a role or database can weaken them. Does not import Django, since the stack
and the settings use it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# A peer that has not answered for about a minute (30 + 3 x 10 s) is gone; Linux would take two hours to notice.
KEEPALIVES_IDLE_S = 30
KEEPALIVES_INTERVAL_S = 10
KEEPALIVES_COUNT = 3
# pg_dump and similar programs stop reading while S3 stalls (three attempts of 60 s each); their peer is not lost.
STALLING_PLACE_S = 300.0
# Allows an operator to pause in the middle of a transaction; `SET` in psql changes it.
SHELL_IDLE_IN_TRANSACTION_TIMEOUT_S = 900.0
# PostgreSQL truncates longer application names.
APPLICATION_NAME_BYTES = 63


@dataclass(frozen=True)
class Limits:
    """How long a session waits, and how long others wait for it. `docs/configuration.md` explains the defaults."""

    lock_timeout_s: float = 10.0
    # How long a transaction may hold its locks while its client is idle.
    idle_in_transaction_timeout_s: float = 60.0
    connect_timeout_s: int = 10
    # How long sent data may remain unacknowledged, in either direction.
    tcp_user_timeout_s: float = 30.0


def parameters(limits: Limits, *, session: Mapping[str, str] | None = None, inherited: str = "") -> dict[str, Any]:
    """Return libpq's connection parameters, as keywords for psycopg or Django's OPTIONS.

    `session` contains additional session settings; `inherited` are options, such as those of a URL, that apply only if
    ours do not override them. PGOPTIONS from the environment is ignored unless it is passed in `inherited`.
    """
    return {
        "connect_timeout": limits.connect_timeout_s,
        **_keepalives(limits.tcp_user_timeout_s),
        "options": options(limits, session=session, inherited=inherited),
    }


def options(limits: Limits, *, session: Mapping[str, str] | None = None, inherited: str = "") -> str:
    """Return the server-side settings in the format of PGOPTIONS. They follow `inherited`, because later ones win."""
    ours = {**_server_side(limits), **(session or {})}
    return " ".join([*([inherited] if inherited else []), *(f"-c {name}={_quoted(ours[name])}" for name in ours)])


def program_environment(limits: Limits, *, session: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a PostgreSQL client program; `program_conninfo` has the remaining parameters.

    pg_dump and pg_restore disable the lock and idle-in-transaction timeouts; pg_dump has an option for the former.
    """
    return {
        "PGCONNECT_TIMEOUT": str(limits.connect_timeout_s),
        "PGOPTIONS": options(_patient(limits), session=session),
    }


def program_conninfo(limits: Limits, database: str = "") -> str:
    """Return a program's --dbname argument: the database, and the parameters that no environment variable can set."""
    values = {
        **({"dbname": database} if database else {}),
        **_keepalives(_patient(limits).tcp_user_timeout_s),
    }
    return " ".join(f"{name}={_conninfo_quoted(str(value))}" for name, value in values.items())


def inherited_options(url_options: Mapping[str, object]) -> str:
    """Return the options from PGOPTIONS and a URL, for the parameter `inherited`."""
    return " ".join(filter(None, [os.environ.get("PGOPTIONS", "").strip(), str(url_options.get("options", ""))]))


def command_name(argv: Sequence[str] | None = None) -> str:
    """Return the application name of this process's sessions (command and host), which identifies lock holders.

    Uses only the first words of the command, since later ones may contain data that must not be logged.
    """
    words = list(sys.argv if argv is None else argv)
    spoken = [word for word in words[1:3] if not word.startswith("-") and "=" not in word and "/" not in word]
    name = " ".join([Path(words[0]).name if words and words[0] not in ("-c", "-m") else "python", *spoken])
    host = socket.gethostname().partition(".")[0]
    return f"{name} on {host}".encode()[:APPLICATION_NAME_BYTES].decode(errors="ignore")


def _patient(limits: Limits) -> Limits:
    """Return the limits for a program whose pipe leads to storage that may stall."""
    return replace(
        limits,
        idle_in_transaction_timeout_s=max(limits.idle_in_transaction_timeout_s, STALLING_PLACE_S),
        tcp_user_timeout_s=max(limits.tcp_user_timeout_s, STALLING_PLACE_S),
    )


def _server_side(limits: Limits) -> dict[str, str]:
    return {
        "lock_timeout": _ms(limits.lock_timeout_s),
        "idle_in_transaction_session_timeout": _ms(limits.idle_in_transaction_timeout_s),
        "tcp_keepalives_idle": str(KEEPALIVES_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVES_INTERVAL_S),
        "tcp_keepalives_count": str(KEEPALIVES_COUNT),
        "tcp_user_timeout": _ms(limits.tcp_user_timeout_s),
    }


def _keepalives(tcp_user_timeout_s: float) -> dict[str, Any]:
    return {
        "keepalives": 1,
        "keepalives_idle": KEEPALIVES_IDLE_S,
        "keepalives_interval": KEEPALIVES_INTERVAL_S,
        "keepalives_count": KEEPALIVES_COUNT,
        "tcp_user_timeout": int(_ms(tcp_user_timeout_s)),
    }


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _quoted(value: str) -> str:
    """Return the value quoted for PGOPTIONS, with spaces and backslashes escaped by a backslash."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _conninfo_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
