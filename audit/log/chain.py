"""Check a tenant's audit log against itself: every hash, every link, the head. The database computes, we compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from audit.log.guards import entry_hash_sql
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
# What the control database's chain begins with, in the place of a tenant's identity.
CONTROL_CHAIN = "control_audit_logs"


@dataclass(frozen=True)
class ChainHead:
    """The end of a chain: how many entries there are, and the last one's hash."""

    sequence: int
    hash: str


def genesis_of(identity: UUID | str) -> str:
    """Return what the first entry of a log follows (see `audit.log.guards`): of the tenant's, or of `CONTROL_CHAIN`."""
    return hashlib.sha256(f"seo-gen audit chain of {identity}".encode()).hexdigest()


def chain_head(connection: BaseDatabaseWrapper) -> ChainHead | None:
    """Return the head as the owner reads it, None where its row is missing."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(HEAD)
        row = cursor.fetchone()
    return ChainHead(*row) if row else None


def chain_last(connection: BaseDatabaseWrapper, identity: UUID) -> ChainHead:
    """Return where the log's own rows end; the genesis where there are none."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(LAST)
        row = cursor.fetchone()
    return ChainHead(*row) if row else ChainHead(0, genesis_of(identity))


def chain_first_bad(connection: BaseDatabaseWrapper, identity: UUID) -> int | None:
    """Return the sequence number of the first entry that does not follow from those before it, None where all do.

    `identity` is the tenant's that the chain began with. Rows that are gone show as a wrong number.
    """
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(FIRST_BAD, [genesis_of(identity)])
        row = cursor.fetchone()
    return row[0] if row else None
