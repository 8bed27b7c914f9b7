"""Check every hash and link of a tenant's audit log, and read where the log ends. The database does the work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from audit.log.chain_sql import entry_hash_sql
from audit.log.safe_search_path import catalog_only

FIRST_BAD = f"""
SELECT sequence
  FROM (SELECT sequence, previous_hash, entry_hash, {entry_hash_sql("entry")} AS computed,
               lag(entry_hash, 1, %s) OVER (ORDER BY sequence) AS before,
               row_number() OVER (ORDER BY sequence) AS number
          FROM public.audit_logs AS entry) AS chain
 WHERE entry_hash <> computed OR previous_hash <> before OR sequence <> number
 ORDER BY number
 LIMIT 1
"""
LAST = "SELECT sequence, entry_hash FROM public.audit_logs ORDER BY sequence DESC LIMIT 1"
HEAD = "SELECT sequence, hash FROM public.audit_chain_heads"
# The control database's chain starts with this value instead of a tenant's identity.
CONTROL_CHAIN = "control_audit_logs"


@dataclass(frozen=True)
class ChainHead:
    """The end of a chain: the last entry's sequence number and hash; 0 and the genesis hash if there is no entry."""

    sequence: int
    hash: str


def genesis_of(identity: UUID | str) -> str:
    """Return the hash that a log's first entry follows.

    `identity` is the tenant identity that the chain starts with, or `CONTROL_CHAIN`.
    `audit.log.chain_sql` computes the same hash in SQL.
    """
    return hashlib.sha256(f"seo-gen audit chain of {identity}".encode()).hexdigest()


def chain_head(connection: BaseDatabaseWrapper) -> ChainHead | None:
    """Return the chain's head, or None if its row is missing. `connection` must be the owner's."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(HEAD)
        row = cursor.fetchone()
    return ChainHead(*row) if row else None


def chain_last(connection: BaseDatabaseWrapper, identity: UUID) -> ChainHead:
    """Return the end of the log according to its own rows; number 0 and the genesis hash if there are none."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(LAST)
        row = cursor.fetchone()
    return ChainHead(*row) if row else ChainHead(0, genesis_of(identity))


def chain_first_bad(connection: BaseDatabaseWrapper, identity: UUID) -> int | None:
    """Return the sequence number of the first entry that breaks the chain, or None if the chain is intact.

    `identity` is the tenant identity that the chain starts with. If rows are missing, the next row counts as the first
    bad one; rows missing at the end are not noticed.
    """
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(FIRST_BAD, [genesis_of(identity)])
        row = cursor.fetchone()
    return row[0] if row else None
