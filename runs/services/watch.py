"""Follow a run until it ends."""

import time
from collections.abc import Callable
from uuid import UUID

from runs.models import WORKING
from runs.selectors import run_document
from runs.types import RunDocument

POLL_S = 0.5


def run_watch(
    *, tenant_id: str, run_id: UUID, on_progress: Callable[[RunDocument], None], poll_s: float = POLL_S
) -> RunDocument:
    """Poll until the run is neither waiting nor running, and return its document; call `on_progress` on every poll."""
    while True:
        document = run_document(tenant_id=tenant_id, run_id=run_id)
        on_progress(document)
        if document["status"] not in WORKING:
            return document
        time.sleep(poll_s)
