"""Celery's side of backups and anchors: who acts, and nothing else."""

import logging
from typing import Any

from celery import shared_task

from audit.context import acting_as
from config.errors import SeoGenError
from tenants.errors import TenantBusy
from tenants.services.audit_anchor import audit_anchor
from tenants.services.backup_daily import backup_daily
from tenants.task_names import AUDIT_ANCHOR, BACKUP_DAILY

logger = logging.getLogger(__name__)


@shared_task(name=BACKUP_DAILY, bind=True, ignore_result=True)
def daily(self: Any) -> None:
    """Back up every tenant and remove what is past its time, once a day however often it is asked for."""
    with acting_as("worker:backup", operation_id=self.request.id):
        try:
            problems = backup_daily()
        except TenantBusy:
            return
        except SeoGenError as error:
            problems = [str(error)]
    for problem in problems:
        logger.error("daily backup: %s", problem, extra={"action": "backup.daily"})


@shared_task(name=AUDIT_ANCHOR, ignore_result=True)
def anchor() -> None:
    """Anchor every audit log. Two messages at once do it once."""
    with acting_as("worker:audit"):
        try:
            problems = audit_anchor().problems
        except TenantBusy:
            return
        except SeoGenError as error:
            problems = [str(error)]
    for problem in problems:
        logger.error("audit anchor: %s", problem, extra={"action": "audit.anchor"})
