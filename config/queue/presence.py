"""Record every few seconds that this worker is running, so that pages and `run show` can say when one was last seen."""

from __future__ import annotations

import threading
from typing import Any

from celery import signals

from runs.workers_seen import worker_seen

INTERVAL_S = 5.0


@signals.worker_ready.connect
def note_presence(**_signal: Any) -> None:
    """Start a thread that records this worker's presence until the process ends."""
    threading.Thread(target=_note, name="presence", daemon=True).start()


def _note() -> None:
    never = threading.Event()
    while True:
        worker_seen()
        never.wait(INTERVAL_S)
