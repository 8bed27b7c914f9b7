"""Wake a worker for a request. The rows are authoritative: a lost message costs time, and a repeated one nothing."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db.models import QuerySet

from config.base.databases import CONTROL
from tenants.models import OperationRequest
from tenants.requests.claim import DUE
from tenants.task_names import OPERATION_RUN

logger = logging.getLogger(__name__)
# For how many requests a sweep wakes workers; they take the others when they have finished these.
WOKEN = 20


def send_wake_up(request_id: UUID) -> None:
    """Wake a worker. If the broker cannot be reached, log it: the sweep sends the wake-up again."""
    from kombu.exceptions import OperationalError  # slow to import, like Celery

    from config.celery import app

    try:
        app.send_task(OPERATION_RUN, args=[str(request_id)], ignore_result=True)
    except OperationalError:
        extra = {"action": "operation.wake_up.lost", "operation": str(request_id)}
        logger.warning("wake-up not sent: the broker cannot be reached", extra=extra)


def operations_sweep() -> int:
    """Wake workers for the oldest requests that are due or whose worker was lost; return the number of requests."""
    due = list(_due().values_list("pk", flat=True)[:WOKEN])
    for request_id in due:
        send_wake_up(request_id)
    return len(due)


def _due() -> QuerySet[OperationRequest]:
    return OperationRequest.objects.using(CONTROL).filter(DUE).order_by("requested_at")
