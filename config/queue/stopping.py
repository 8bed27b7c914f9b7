"""Stop a worker: take no new step, wait for its calls, then return their steps without spending an attempt.

On SIGTERM, the worker waits up to WORKER_STOP_WAIT_S; on SIGQUIT, it does not wait.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from celery import signals
from celery.worker import state
from django.conf import settings

from runs.steps.in_flight import in_flight

logger = logging.getLogger(__name__)


@signals.worker_shutting_down.connect
def stop_after_calls(**_signal: Any) -> None:
    """In a thread, return the steps still running after WORKER_STOP_WAIT_S. Celery has stopped taking new ones."""
    _in_thread(settings.WORKER_STOP_WAIT_S)


@signals.worker_ready.connect
def stop_at_once_on_quit(**_signal: Any) -> None:
    """Install a handler that returns the steps at once on SIGQUIT; Celery's would leave them claimed."""

    def handle(number: int, frame: FrameType | None) -> None:
        state.should_stop = 0  # type: ignore[assignment]  # the stub knows no exit code
        _in_thread(0.0)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGQUIT, handle)


def _in_thread(wait_s: float) -> None:
    threading.Thread(target=_return_all, args=(wait_s,), name="stopping", daemon=True).start()


def _return_all(wait_s: float) -> None:
    # Wait the full time, even while no step is in flight: one that the worker has received may still begin. If none is
    # left, the process ends, and this thread with it.
    threading.Event().wait(wait_s)
    number = in_flight.return_all()
    logger.info("returning steps, the worker is stopping", extra={"action": "worker.stop", "steps": number})
