"""What is said to a recovered server in PostgreSQL's single-user mode, and how its answer is read.

There is no login: whoever runs the program is the superuser, whatever roles, passwords and rights the server's catalog
holds. Settings of databases and roles do not count there, nor do event triggers. PostgreSQL manual, chapter "postgres",
section "Options for Single-User Mode".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import LiteralString

from psycopg import sql

# Nothing that the database's owner made is found by name, and the first error ends the program with a status.
STANDALONE_SETTINGS = {
    "search_path": "pg_catalog",
    "exit_on_error": "on",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
}
# With the option -j: a statement may be several lines long, and this ends it.
END = ";\n\n"
# It reads every table whatever the policies on its rows, and can do nothing else, not even run a program or read a
# file. For `ALLOW_CONNECTIONS`: the database may have been on its way to another name.
ADMIT: tuple[LiteralString, ...] = (
    "CREATE ROLE {reader} LOGIN BYPASSRLS IN ROLE pg_read_all_data",
    "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1",
    "GRANT CONNECT ON DATABASE {database} TO {reader}",
)
# In hexadecimal digits, since a name may hold what the answer's own form uses.
LIST_PREPARED: LiteralString = """
SELECT encode(convert_to(gid, getdatabaseencoding()), 'hex') AS gid
  FROM pg_prepared_xacts WHERE database = current_database()
"""
GID = re.compile(r'\bgid = "((?:[0-9a-f]{2})+)"')


def admit_reader(reader: str, database: str) -> str:
    """Return statements that let a new role read that database, and list what is prepared in it (`prepared_in`)."""
    names = {"reader": sql.Identifier(reader), "database": sql.Identifier(database)}
    return END.join([*(sql.SQL(statement).format(**names).as_string() for statement in ADMIT), LIST_PREPARED, ""])


def prepared_in(answer: str) -> list[str]:
    """Return the names of the prepared transactions, in hexadecimal digits, from the answer to `admit_reader`."""
    return GID.findall(answer)


def roll_back_prepared(gids: Iterable[str]) -> str:
    """Return statements that roll back the prepared transactions of these names (`prepared_in`)."""
    escaped = ("".join(rf"\x{gid[start : start + 2]}" for start in range(0, len(gid), 2)) for gid in gids)
    return "".join(f"ROLLBACK PREPARED E'{gid}'{END}" for gid in escaped)
