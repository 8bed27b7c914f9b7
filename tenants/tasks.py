"""Celery tasks for backups. They only set the actor and call the service."""

import logging
from typing import Any

from celery import shared_task

from audit.log.actor import acting_as
from config.base.errors import SeoGenError
from tenants.errors import TenantBusy
from tenants.retention.daily import backup_daily
from tenants.task_names import BACKUP_DAILY

logger = logging.getLogger(__name__)


@shared_task(name=BACKUP_DAILY, bind=True, ignore_result=True)
def daily(self: Any) -> None:
    """Back up every tenant and remove expired backups, at most once a day, however often this is called."""
    with acting_as("worker:backup", operation_id=self.request.id):
        try:
            problems = backup_daily()
        except TenantBusy:
            return
        except SeoGenError as error:
            problems = [str(error)]
    for problem in problems:
        logger.error("daily backup: %s", problem, extra={"action": "backup.daily"})
