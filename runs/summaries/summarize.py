"""Keep the control database's summaries up to date with the runs.

1. A transaction changes a run. The table's trigger (`runs` migration 0005) marks the run's summary as outdated.
2. After the commit, the summary is written.
3. The mark is removed, unless the run has changed again.

If the process dies in between, or the control database does not answer, the mark remains, and the sweep writes the
summary with `tenant_summarize`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import LiteralString
from uuid import UUID

from django.db import DatabaseError, connections, transaction

from config.base.databases import CONTROL
from runs.models import Run
from runs.summaries.rows import Row, read_outdated, read_rows, write_rows
from tenants.errors import TenantError
from tenants.routing.pool import version_of

logger = logging.getLogger(__name__)

# How many runs of one tenant are summarized together, and after how many the sweep moves to other tenants.
BATCH = 500
BATCHES = 20

# A locked row is about to be changed, which makes its summary outdated again; waiting for it could cause a deadlock.
NOTE_SUMMARIZED: LiteralString = """
UPDATE public.runs SET is_summarized = true
 WHERE id IN (
       SELECT run.id FROM public.runs AS run
         JOIN unnest(%s::uuid[], %s::timestamptz[]) AS seen (id, updated_at)
           ON run.id = seen.id AND run.updated_at = seen.updated_at
          FOR UPDATE OF run SKIP LOCKED)
"""


def summarize_on_commit(*, alias: str, tenant_id: str, run_id: UUID) -> None:
    """Write the run's summary after the current transaction on `alias` commits.

    Call it in every transaction that changes a run's status. A failure is logged and left to the sweep; it never
    reaches the caller, whose transaction is committed by then.
    """
    transaction.on_commit(partial(_summarize_now, alias, tenant_id, run_id), using=alias)


def tenant_summarize(*, alias: str, tenant_id: str) -> bool:
    """Write the outdated summaries of the tenant; return False if some may remain for the next sweep."""
    outdated = Run.objects.using(alias).filter(is_summarized=False).order_by("updated_at", "pk")
    for _batch in range(BATCHES):
        rows = read_rows(outdated[:BATCH])
        are_done = _summarize(alias, tenant_id, rows)
        if not are_done:
            return False
        if len(rows) < BATCH:
            return True
    return False


def _summarize_now(alias: str, tenant_id: str, run_id: UUID) -> None:
    try:
        _summarize(alias, tenant_id, read_outdated(alias, run_id))
    except Exception as error:
        _close_if_broken()
        expected = isinstance(error, (TenantError, DatabaseError))
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "run not summarized",
            exc_info=None if expected else error,
            extra={
                "action": "run.summarize",
                "tenant": tenant_id,
                "run_id": str(run_id),
                "error": type(error).__name__,
            },
        )


def _summarize(alias: str, tenant_id: str, rows: Sequence[Row]) -> bool:
    """Write these summaries of runs; return whether all are up to date now."""
    if not rows:
        return True
    if not write_rows(tenant_id, rows, version=version_of(alias)):
        return False
    with connections[alias].cursor() as cursor:
        cursor.execute(NOTE_SUMMARIZED, [[row.run_id for row in rows], [row.updated_at for row in rows]])
        return bool(cursor.rowcount == len(rows))


def _close_if_broken() -> None:
    """Close our connection to the control database if it failed, so that the next user opens a new one."""
    control = connections[CONTROL]
    if not control.in_atomic_block:
        control.close_if_unusable_or_obsolete()
