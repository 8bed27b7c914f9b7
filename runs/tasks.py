"""Celery tasks of runs: thin wrappers that set the audit actor."""

import logging
import os
from typing import Any
from uuid import UUID

from celery import shared_task

from audit.log.actor import acting_as
from runs.messages.task_names import EXECUTE_STEP, SWEEP
from runs.services.execute import UNUSABLE, step_execute
from runs.services.sweep import runs_sweep
from tenants.errors import TenantError, reason_of

logger = logging.getLogger(__name__)


@shared_task(name=EXECUTE_STEP, bind=True, ignore_result=True)
def execute_step(self: Any, tenant_id: str, run_id: str, step: str) -> None:
    """Execute the step if it is due. Repeated and late wake-ups do nothing."""
    worker = self.request.hostname or "local"
    with acting_as(f"worker:{worker}", operation_id=self.request.id):
        try:
            step_execute(tenant_id=tenant_id, run_id=UUID(run_id), step=step, owner=f"{worker}/{os.getpid()}")
        except (TenantError, *UNUSABLE) as error:
            # Suspended, erased, locked or unreachable: the rows keep the step until the tenant can be used again.
            logger.warning(
                "step skipped, its tenant cannot be used",
                extra={
                    "action": "step.skip",
                    "tenant": tenant_id,
                    "run_id": run_id,
                    "step": step,
                    "error": type(error).__name__,
                    "reason": reason_of(error),
                },
            )


@shared_task(name=SWEEP, ignore_result=True)
def sweep() -> None:
    """Wake workers for steps that have none."""
    with acting_as("worker:sweep"):
        runs_sweep()
