"""Input for a recovered server in PostgreSQL's single-user mode, and parsing of its output.

There is no login: the program runs as superuser, whatever roles, passwords and rights the server's catalog holds.
Settings of databases and roles are ignored there, and event triggers do not fire. See the PostgreSQL manual, chapter
"postgres", section "Options for Single-User Mode".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import LiteralString

from psycopg import sql

# No name resolves to an object of the database's owner, and the first error ends the program with a nonzero status.
STANDALONE_SETTINGS = {
    "search_path": "pg_catalog",
    "exit_on_error": "on",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
}
# With option -j a statement may span several lines; this ends it.
END = ";\n\n"
# The role reads every table, whatever its row policies, and can do nothing else: not even run a program or read a
# file. ALLOW_CONNECTIONS, because the database may have been in the middle of being swapped.
ADMIT: tuple[LiteralString, ...] = (
    "CREATE ROLE {reader} LOGIN BYPASSRLS IN ROLE pg_read_all_data",
    "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1",
    "GRANT CONNECT ON DATABASE {database} TO {reader}",
)
# In hexadecimal, since a name can contain the delimiters of the output.
LIST_PREPARED: LiteralString = """
SELECT encode(convert_to(gid, getdatabaseencoding()), 'hex') AS gid
  FROM pg_prepared_xacts WHERE database = current_database()
"""
GID = re.compile(r'\bgid = "((?:[0-9a-f]{2})+)"')


def admit_reader(reader: str, database: str) -> str:
    """Return statements that let a new role read the database, then list prepared transactions for `prepared_in`."""
    names = {"reader": sql.Identifier(reader), "database": sql.Identifier(database)}
    return END.join([*(sql.SQL(statement).format(**names).as_string() for statement in ADMIT), LIST_PREPARED, ""])


def prepared_in(answer: str) -> list[str]:
    """Return the names of the prepared transactions, in hexadecimal, from the output of `admit_reader`'s statements."""
    return GID.findall(answer)


def roll_back_prepared(gids: Iterable[str]) -> str:
    """Return statements that roll back the prepared transactions with these names (from `prepared_in`)."""
    escaped = ("".join(rf"\x{gid[start : start + 2]}" for start in range(0, len(gid), 2)) for gid in gids)
    return "".join(f"ROLLBACK PREPARED E'{gid}'{END}" for gid in escaped)
