"""The Celery task that anchors the audit logs."""

import logging

from celery import shared_task

from audit.log.actor import acting_as
from audit.verification.anchor import audit_anchor
from config.base.errors import SeoGenError
from tenants.errors import JobBusy
from tenants.task_names import AUDIT_ANCHOR

logger = logging.getLogger(__name__)


@shared_task(name=AUDIT_ANCHOR, ignore_result=True)
def anchor() -> None:
    """Run `audit_anchor`, and log its problems. Do nothing if it is already running elsewhere."""
    with acting_as("worker:audit"):
        try:
            problems = audit_anchor().problems
        except JobBusy:
            return
        except SeoGenError as error:
            problems = [str(error)]
    for problem in problems:
        logger.error("audit anchor: %s", problem, extra={"action": "audit.anchor"})
