"""Verify that a log has not been altered: its chain, its end and its anchors. Find the first bad entry and the cause.

Two statements check the whole chain in constant memory: one recomputes every hash, in parallel if the server has
several cores; the other follows the links in index order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import LiteralString
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.log.chain_check import ChainHead
from audit.log.chain_sql import entry_hash_sql
from audit.log.safe_search_path import catalog_only
from audit.verification.anchors import Anchor

# `+ 0` keeps the planner from scanning the index in order, which cannot run in parallel.
CHANGED: LiteralString = """
SELECT min(entry.sequence + 0) FROM public.{log} AS entry WHERE entry.entry_hash IS DISTINCT FROM {hash}
"""
UNLINKED: LiteralString = """
SELECT number, sequence
  FROM (SELECT sequence, previous_hash, lag(entry_hash, 1, %s) OVER in_order AS before,
               row_number() OVER in_order AS number
          FROM public.{log} WINDOW in_order AS (ORDER BY sequence)) AS chain
 WHERE previous_hash IS DISTINCT FROM before OR sequence <> number
 ORDER BY number
 LIMIT 1
"""
COUNT: LiteralString = "SELECT count(*) FROM public.{log}"
# One statement, so that both ends come from the same snapshot.
ENDS: LiteralString = """
SELECT head.sequence, head.hash, last.sequence, last.entry_hash
  FROM (SELECT 1) AS one
  LEFT JOIN public.{head} AS head ON true
  LEFT JOIN (SELECT sequence, entry_hash FROM public.{log} ORDER BY sequence DESC LIMIT 1) AS last ON true
"""
# The entries that have anchors.
ANCHORED: LiteralString = "SELECT sequence, entry_hash, created_at FROM public.{log} WHERE sequence = ANY (%s)"
BOUND: LiteralString = """
SELECT details->>'operation', sequence - 1, previous_hash FROM public.{log} WHERE action = 'tenant.restore'
"""


class Kind(StrEnum):
    """The kind of a problem with a log. The values appear in `--json` output."""

    CHANGED = "entry changed"
    MISSING = "entry missing"
    INSERTED = "entry inserted"
    UNLINKED = "entry does not follow"
    FOREIGN = "another log"
    REMOVED = "newest entries removed"
    EMPTIED = "log emptied"
    HEAD = "head changed"
    RECOMPUTED = "chain computed anew"
    ROLLED_BACK = "rolled back to an older state"
    GUARD = "guard changed"
    ANCHOR = "anchor changed"
    DOCUMENT = "anchor document"
    ARCHIVE = "archive changed"
    LEDGER = "ledger of erasures changed"
    UNREADABLE = "not verified"


@dataclass(frozen=True)
class Problem:
    kind: Kind
    # One or more whole sentences.
    message: str
    # The first bad entry; None if the problem is not about entries.
    sequence: int | None = None


@dataclass(frozen=True)
class Ends:
    """The end of a log according to its head and to its last row; either is None if it is missing or unknown."""

    head: ChainHead | None
    last: ChainHead | None


@dataclass
class LogReport:
    """The result of verifying one log."""

    # "control", "tenant" or "archive".
    log: str
    # "" and None for the control log.
    tenant_id: str
    identity: UUID | None
    entries: int = 0
    # How many anchors were compared, from the table and documents, and how many mismatches a restore explains.
    anchors: int = 0
    explained: int = 0
    documents: int | None = None
    # The newest anchor that the log matches before its first bad entry.
    last_good_anchor: Anchor | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Deviation:
    """An anchor that the log does not match."""

    anchor: Anchor
    # The hash and time of the entry with the anchor's number; None if there is no such entry.
    hash: str | None
    created_at: datetime | None


def chain_fault(connection: BaseDatabaseWrapper, log: LiteralString, genesis: str) -> tuple[int, Problem | None]:
    """Return (number of entries, problem with the first bad entry or None).

    `genesis` is the hash that the first entry follows (`audit.log.chain_check.genesis_of`).
    """
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(CHANGED.replace("{hash}", entry_hash_sql("entry")).replace("{log}", log))
        changed = cursor.fetchone()[0]
        cursor.execute(UNLINKED.replace("{log}", log), [genesis])
        unlinked = cursor.fetchone()
        cursor.execute(COUNT.replace("{log}", log))
        entries = cursor.fetchone()[0]
    if changed is not None and (unlinked is None or changed <= unlinked[1]):
        return entries, Problem(
            Kind.CHANGED, _("Entry %(number)d does not match its hash.") % {"number": changed}, changed
        )
    return entries, _unlinked(*unlinked) if unlinked else None


def log_ends(connection: BaseDatabaseWrapper, log: LiteralString, head: LiteralString) -> Ends:
    """Return where the log ends, according to its head and to its last row. Only the owner can read the head."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(ENDS.replace("{log}", log).replace("{head}", head))
        row = cursor.fetchone()
    return Ends(
        ChainHead(row[0], row[1]) if row[0] is not None else None,
        ChainHead(row[2], row[3]) if row[2] is not None else None,
    )


def restores_bound(connection: BaseDatabaseWrapper, log: LiteralString) -> set[tuple[str, ChainHead]]:
    """Return (operation, preceding chain head) for each restore recorded in the log itself."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(BOUND.replace("{log}", log))
        return {(str(operation), ChainHead(sequence, hash_before)) for operation, sequence, hash_before in cursor}


def deviations(
    connection: BaseDatabaseWrapper, anchors: Sequence[Anchor], *, log: LiteralString, genesis: str
) -> list[Deviation]:
    """Return the anchors that the log does not match, in order of sequence number."""
    with catalog_only(connection), connection.cursor() as cursor:
        cursor.execute(ANCHORED.replace("{log}", log), [[anchor.sequence for anchor in anchors]])
        return deviations_from({row[0]: (row[1], row[2]) for row in cursor.fetchall()}, anchors, genesis)


def deviations_from(
    found: dict[int, tuple[str, datetime | None]], anchors: Sequence[Anchor], genesis: str
) -> list[Deviation]:
    """Like `deviations`, but without a query: `found` maps each anchored entry's sequence number to (hash, time)."""
    rows = {0: (genesis, None), **found}
    wrong = []
    for anchor in sorted(anchors, key=lambda one: (one.sequence, one.at)):
        hash_there, time_there = rows.get(anchor.sequence, (None, None))
        if hash_there != anchor.hash:
            wrong.append(Deviation(anchor, hash_there, time_there))
    return wrong


def judge(*, ends: Ends, genesis: str, fault: Problem | None, wrong: Sequence[Deviation], good: int) -> list[Problem]:
    """Return one problem for each change to a log that can be told apart from the others.

    `wrong` holds the anchors that the log does not match and no restore explains; `good` is the number of the last
    entry that an anchor vouches for. A mismatch that one problem explains is not reported again as another.
    """
    problems = [fault] if fault else []
    last = ends.last or ChainHead(0, genesis)
    problems += _about_ends(ends.head, last, anchored=any(one.anchor.sequence for one in wrong))
    known = [one.sequence for one in problems if one.sequence is not None and one.kind != Kind.HEAD]
    # A changed or missing entry already explains why later anchors do not match.
    unknown = [one for one in wrong if not any(number <= one.anchor.sequence for number in known)]
    if unknown:
        problems.append(_about_anchor(unknown[0], good, last))
    return problems


def last_good(anchors: Sequence[Anchor], wrong: Collection[Anchor], problems: Sequence[Problem]) -> Anchor | None:
    """Return the newest matching anchor before the first bad entry; None if there is no such anchor."""
    bad = [one.sequence for one in problems if one.sequence is not None]
    end = min(bad, default=None)
    fits = [one for one in anchors if one not in wrong and (end is None or one.sequence < end)]
    return max(fits, key=lambda one: (one.sequence, one.at), default=None)


def in_each(reports: Sequence[LogReport]) -> Iterator[tuple[LogReport, Problem]]:
    for report in reports:
        for problem in report.problems:
            yield report, problem


def _unlinked(number: int, sequence: int) -> Problem:
    if sequence > number:
        last = sequence - 1
        one, several = _("Entry %(number)d is missing."), _("Entries %(number)d to %(last)d are missing.")
        text = one if last == number else several
        return Problem(Kind.MISSING, text % {"number": number, "last": last}, number)
    if sequence < number:
        return Problem(
            Kind.INSERTED, _("An entry with the number %(number)d was inserted.") % {"number": sequence}, sequence
        )
    if number == 1:
        return Problem(Kind.FOREIGN, _("The first entry does not belong to this log's chain."), 1)
    return Problem(
        Kind.UNLINKED,
        _("Entry %(number)d does not follow entry %(before)d: one of them was replaced or inserted.")
        % {"number": number, "before": number - 1},
        number - 1,
    )


def _about_ends(head: ChainHead | None, last: ChainHead, *, anchored: bool) -> Iterator[Problem]:
    if last.sequence == 0 and (anchored or (head is not None and head.sequence)):
        yield Problem(Kind.EMPTIED, _("All entries are gone."), 1)
    elif head is None:
        yield Problem(Kind.HEAD, _("The chain head is missing or cannot be read."))
    elif head.sequence > last.sequence:
        yield Problem(
            Kind.REMOVED,
            _(
                "The log ends at entry %(last)d, but its chain head is at entry %(head)d: the newest entries were"
                " removed, or the head was changed."
            )
            % {"last": last.sequence, "head": head.sequence},
            last.sequence + 1,
        )
    elif head != last:
        yield Problem(
            Kind.HEAD,
            _(
                "The chain head (entry %(head)d) does not match the last entry (entry %(last)d): the head was"
                " changed, or the newest entries were changed or inserted."
            )
            % {"head": head.sequence, "last": last.sequence},
        )


def _about_anchor(one: Deviation, good: int, last: ChainHead) -> Problem:
    values = {"sequence": one.anchor.sequence, "time": f"{one.anchor.at:%Y-%m-%d %H:%M:%S%z}", "from": good + 1}
    if one.hash is None:
        return Problem(
            Kind.ROLLED_BACK,
            ngettext(
                "The log was rolled back outside `tenant restore`, or its newest entries were"
                " removed and its head set back: it had %(sequence)d entry at %(time)s and has"
                " %(last)d now.",
                "The log was rolled back outside `tenant restore`, or its newest entries were"
                " removed and its head set back: it had %(sequence)d entries at %(time)s and has"
                " %(last)d now.",
                one.anchor.sequence,
            )
            % {**values, "last": last.sequence},
            last.sequence + 1,
        )
    if one.created_at is not None and one.created_at > one.anchor.at:
        return Problem(
            Kind.ROLLED_BACK,
            _(
                "The log was rolled back outside `tenant restore` and then continued: entry"
                " %(sequence)d is not the one recorded at %(time)s. The first difference is at entry"
                " %(from)d or later."
            )
            % values,
            good + 1,
        )
    return Problem(
        Kind.RECOMPUTED,
        _(
            "The chain was recomputed from entry %(from)d or a later one: entry %(sequence)d no"
            " longer has the hash that it had at %(time)s."
        )
        % values,
        good + 1,
    )
