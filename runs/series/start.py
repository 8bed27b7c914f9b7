"""Start the runs of a series. A run's id is derived from the series id and the row's line, so none starts twice."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from config.base.errors import SeoGenError
from runs.models import Run
from runs.series.rows import ListedRow
from runs.services.create import run_create
from tenants.routing.context import tenant_context

# How many seconds one request may take; the rest is left to the next one.
ENOUGH_S = 15.0


@dataclass(frozen=True)
class SeriesReport:
    """The outcome of starting a series."""

    series_id: str
    # Runs that this call started, and those that had already been started.
    started: int
    earlier: int
    # Rows whose runs have not been started.
    left: int
    # Why the first of them was refused; None if the time was up instead, or if there are none.
    error: SeoGenError | None


def series_id_of(nonce: UUID, rows: Sequence[ListedRow], *, hold: bool) -> str:
    """Return the id of a series that a form starts: the same for the same form, list and `hold`."""
    return str(uuid5(nonce, json.dumps([_documents(rows), hold], sort_keys=True)))


def series_start(
    *, tenant_id: str, series_id: str, rows: Sequence[ListedRow], hold: bool = False, enough_s: float = ENOUGH_S
) -> SeriesReport:
    """Start the runs of the rows in order, each in its own transaction, and return the outcome.

    Stops at the first run that is refused, or after `enough_s` seconds; another call starts the rest. Raises
    `TenantError`.
    """
    end = time.monotonic() + enough_s
    ids = {row.line: uuid5(UUID(series_id), str(row.line)) for row in rows}
    started, error = 0, None
    with tenant_context(tenant_id) as alias:
        earlier = set(Run.objects.using(alias).filter(pk__in=ids.values()).values_list("pk", flat=True))
        for row in rows:
            if ids[row.line] in earlier:
                continue
            if started and time.monotonic() > end:
                break
            try:
                config = row.config.model_copy(update={"series_id": series_id})
                run_create(tenant_id=tenant_id, config=config, hold=hold, run_id=ids[row.line])
            except SeoGenError as refused:
                error = refused
                break
            started += 1
    return SeriesReport(series_id, started, len(earlier), len(rows) - started - len(earlier), error)


def _documents(rows: Sequence[ListedRow]) -> list[tuple[int, Mapping[str, object]]]:
    return [(row.line, row.config.document()) for row in rows]
