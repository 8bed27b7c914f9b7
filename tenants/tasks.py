"""Celery tasks for the daily backup and for operations that staff request; services do the work."""

import logging
import os
from typing import Any
from uuid import UUID

from celery import shared_task

from audit.log.actor import acting_as
from config.base.errors import SeoGenError
from tenants.errors import JobBusy
from tenants.requests.exports import exports_expire
from tenants.requests.wake import operations_sweep
from tenants.requests.work import operations_work
from tenants.retention.daily import backup_daily
from tenants.task_names import BACKUP_DAILY, OPERATION_RUN, OPERATIONS_SWEEP

# Tasks that may take hours acknowledge their message before they begin: RabbitMQ closes the channel of a consumer that
# keeps one for 30 minutes (consumer_timeout), and the worker would end. Nothing is lost with a message: what is due is
# in the control database, and beat sends the next wake-up.
logger = logging.getLogger(__name__)


@shared_task(name=BACKUP_DAILY, bind=True, ignore_result=True, acks_late=False)
def daily(self: Any) -> None:
    """Run the daily backup if it is due and not already running; log the failures."""
    with acting_as("worker:backup", operation_id=self.request.id):
        try:
            problems = backup_daily()
        except JobBusy:
            return
        except SeoGenError as error:
            problems = [str(error)]
    for problem in problems:
        logger.error("daily backup: %s", problem, extra={"action": "backup.daily"})


@shared_task(name=OPERATION_RUN, bind=True, ignore_result=True, acks_late=False)
def operation_run(self: Any, request_id: str) -> None:
    """Carry out this request if it is due, then others that are due. A repeated wake-up does not repeat a request."""
    operations_work(f"{self.request.hostname or 'local'}/{os.getpid()}", UUID(request_id), is_stopping=_is_stopping)


@shared_task(name=OPERATIONS_SWEEP, ignore_result=True)
def sweep() -> None:
    """Wake workers for the oldest operations that are due or whose worker was lost; remove expired exports."""
    operations_sweep()
    with acting_as("worker:sweep"):
        exports_expire()


def _is_stopping() -> bool:
    from celery.worker import state  # only a worker has loaded it

    return state.should_stop is not None
