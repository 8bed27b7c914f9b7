"""Follow a run until it ends or is paused."""

import time
from collections.abc import Callable
from uuid import UUID

from runs.models import WORKING
from runs.selectors import run_document, run_get
from runs.services.read import run_read_record
from runs.types import RunDocument
from tenants.routing.context import tenant_context

# Each poll reads the tenant's database.
POLL_S = 1.0


def run_watch(
    *, tenant_id: str, run_id: UUID | str, on_progress: Callable[[RunDocument], None], poll_s: float = POLL_S
) -> RunDocument:
    """Poll until the run is neither pending nor running, and return its document; call `on_progress` on every poll.

    Raises `TenantError` or `UnknownRun`.
    """
    while True:
        document = run_document(tenant_id=tenant_id, run_id=run_id)
        on_progress(document)
        if document["status"] not in WORKING:
            return document
        time.sleep(poll_s)


def run_follow(
    *, tenant_id: str, run_id: UUID | str, on_progress: Callable[[RunDocument], None], poll_s: float = POLL_S
) -> RunDocument:
    """Watch a run for a person: record the access once, then do what `run_watch` does."""
    with tenant_context(tenant_id) as alias:
        run_read_record(alias=alias, run_id=run_get(alias=alias, run_id=run_id).pk)
    return run_watch(tenant_id=tenant_id, run_id=run_id, on_progress=on_progress, poll_s=poll_s)
