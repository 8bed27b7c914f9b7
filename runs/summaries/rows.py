"""Read runs as summaries from a tenant's database, and write them to the control database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from django.db import connections
from django.db.models import Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Left

from config.base.databases import CONTROL
from config.base.rows import fetch_one
from runs.models import Run, RunStatus, Step, StepStatus
from runs.summaries.models import RunSummary

MAX_ERROR_CHARS = 500
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED)

# The tenant's row is locked, and compared with what the connection to its database was opened for. So a process that
# read a database cannot write after that database was replaced, or after the tenant was erased.
# An older state never replaces a newer one, so two processes may write in any order.
UPSERT: LiteralString = """
WITH current AS (
    SELECT id FROM public.tenants
     WHERE id = %(tenant_id)s AND coalesce(%(version)s, connection_version) = connection_version
       FOR SHARE
), written AS (
    INSERT INTO public.run_summaries AS present
           (tenant_id, run_id, status, current_step, pause_cause, error_step, error, is_truncated,
            created_at, updated_at, ended_at)
    SELECT current.id, found.*
      FROM current, unnest(
               %(run_id)s::uuid[], %(status)s::text[], %(current_step)s::text[], %(pause_cause)s::text[],
               %(error_step)s::text[], %(error)s::text[], %(is_truncated)s::boolean[], %(created_at)s::timestamptz[],
               %(updated_at)s::timestamptz[], %(ended_at)s::timestamptz[]
           ) AS found (run_id, status, current_step, pause_cause, error_step, error, is_truncated,
                       created_at, updated_at, ended_at)
     ORDER BY found.run_id
    ON CONFLICT (tenant_id, run_id) DO UPDATE
       SET status = excluded.status, current_step = excluded.current_step, pause_cause = excluded.pause_cause,
           error_step = excluded.error_step, error = excluded.error, is_truncated = excluded.is_truncated,
           created_at = excluded.created_at, updated_at = excluded.updated_at, ended_at = excluded.ended_at
     WHERE present.updated_at < excluded.updated_at
)
SELECT count(*) FROM current
"""


@dataclass(frozen=True)
class Row:
    """A summary, as read from either database; the fields are the columns of `RunSummary`."""

    run_id: UUID
    status: str
    current_step: str | None
    pause_cause: str | None
    error_step: str | None
    error: str | None
    is_truncated: bool
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


COLUMNS = tuple(field.name for field in fields(Row))
WITHOUT_END = tuple(name for name in COLUMNS if name != "ended_at")

READ_OUTDATED: LiteralString = """
SELECT run.id, run.status, run.current_step, run.pause_cause, failed.step, left(failed.error_message, %s),
       EXISTS (SELECT 1 FROM public.steps WHERE run_id = run.id AND is_truncated), run.created_at, run.updated_at
  FROM public.runs AS run
  LEFT JOIN public.steps AS failed
         ON failed.run_id = run.id AND failed.step = run.current_step AND failed.status = 'failed'
        AND run.status = 'failed'
 WHERE run.id = %s AND NOT run.is_summarized
"""


def read_rows(runs: QuerySet[Run]) -> list[Row]:
    """Return up-to-date summaries of these runs, read from the tenant's database."""
    failed = Step.objects.using(runs.db).filter(run=OuterRef("pk"), step=OuterRef("current_step"))
    failed = failed.filter(run__status=RunStatus.FAILED, status=StepStatus.FAILED)
    truncated = Step.objects.using(runs.db).filter(run=OuterRef("pk"), is_truncated=True)
    found = runs.annotate(
        run_id=F("pk"),
        error_step=Subquery(failed.values("step")),
        error=Subquery(failed.values(message=Left("error_message", MAX_ERROR_CHARS))),
        is_truncated=Exists(truncated),
    )
    return [_row(**values) for values in found.values(*WITHOUT_END)]


def read_outdated(alias: str, run_id: UUID) -> list[Row]:
    """Return [the summary of one run], read from the tenant's database; [] if it is up to date or there is no such run.

    This is one statement in SQL, because workers call it often.
    """
    values = fetch_one(alias, READ_OUTDATED, [MAX_ERROR_CHARS, run_id])
    return [] if values is None else [_row(**dict(zip(WITHOUT_END, values, strict=True)))]


def present_rows(tenant_id: str, **runs: object) -> dict[UUID, Row]:
    """Return {run id: summary} of the tenant from the control database; `runs` are filters on `RunSummary`."""
    found = RunSummary.objects.using(CONTROL).filter(tenant_id=tenant_id, **runs)
    return {row[0]: Row(*row) for row in found.values_list(*COLUMNS)}


def write_rows(tenant_id: str, rows: Collection[Row], *, version: int | None) -> bool:
    """Write the summaries, but none over a newer one; return False, having written nothing, if `version` is obsolete.

    `version` is that of the connection over which the summaries were read (`tenants.routing.pool.version_of`). It is
    obsolete if the tenant's row has a different version by now, or no longer exists. None (a connection as the owner)
    is not compared. `rows` must not be empty.
    """
    columns: Sequence[list[object]] = [list(column) for column in zip(*map(astuple, rows), strict=True)]
    values = dict(zip(COLUMNS, columns, strict=True))
    with connections[CONTROL].cursor() as cursor:
        cursor.execute(UPSERT, {**values, "tenant_id": tenant_id, "version": version})
        return bool(cursor.fetchone()[0])


def _row(*, status: str, updated_at: datetime, **values: object) -> Row:
    ended_at = updated_at if status in ENDED else None
    return Row(status=status, updated_at=updated_at, ended_at=ended_at, **values)  # type: ignore[arg-type]
