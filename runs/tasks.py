"""Celery tasks of runs: thin wrappers that set the audit actor."""

import logging
import os
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.exceptions import Reject

from audit.log.actor import acting_as
from llm.prices.history import prices_begin
from runs.costs.reconcile import costs_compare
from runs.messages.format import ROUTE
from runs.messages.task_names import COMPARE_COSTS, EXECUTE_STEP, SWEEP
from runs.steps.execute import UNUSABLE, step_execute
from runs.steps.in_flight import in_flight
from runs.steps.sweep import runs_sweep
from runs.steps.turn import take_turn
from runs.steps.wake import UNKNOWN_ROUTE
from runs.turns import Turn, Waiting
from tenants.errors import TenantError, reason_of

logger = logging.getLogger(__name__)


@shared_task(name=EXECUTE_STEP, bind=True, ignore_result=True)
def execute_step(self: Any, tenant_id: str, run_id: str, step: str) -> None:
    """Execute the step whose turn it is: this one, or another that is waiting.

    A step that is not due is not executed, so repeated and late wake-ups are harmless. Each waiting step has one
    message. If the turn's step cannot be executed, for example because a worker that could not reach the queues has
    executed it already, this message takes another turn; otherwise the step that it names would have no message left.
    """
    own = Waiting(tenant_id, run_id, step, _route(self.request))
    while True:
        if in_flight.is_returning:
            # This worker returns its steps, and must not take them again.
            raise Reject("the worker stops", requeue=True)
        turn = take_turn(own)
        if turn is None or _execute(self.request, turn) or turn.waiting == own:
            return


def _execute(request: Any, turn: Turn) -> bool:
    """Execute the turn's step; return False if it was not claimed, or its tenant cannot be used."""
    worker, waiting = request.hostname or "local", turn.waiting
    with acting_as(f"worker:{worker}", operation_id=request.id):
        try:
            outcome = step_execute(
                tenant_id=waiting.tenant_id,
                run_id=UUID(waiting.run_id),
                step=waiting.step,
                owner=f"{worker}/{os.getpid()}",
                turn=turn,
            )
        except (TenantError, *UNUSABLE) as error:
            # Suspended, erased, locked or unreachable: the rows keep the step until the tenant can be used again.
            logger.warning(
                "step skipped, its tenant cannot be used",
                extra={
                    "action": "step.skip",
                    "tenant": waiting.tenant_id,
                    "run_id": waiting.run_id,
                    "step": waiting.step,
                    "error": type(error).__name__,
                    "reason": reason_of(error),
                },
            )
            return False
    return outcome != "not claimed"


def _route(request: Any) -> str:
    """Return the route that the message names, or `UNKNOWN_ROUTE`: messages from earlier releases name none."""
    return str(request.get(ROUTE) or UNKNOWN_ROUTE)


@shared_task(name=SWEEP, ignore_result=True)
def sweep() -> None:
    """Copy prices that have come into effect to the models, then run one sweep over the tenants (`runs_sweep`)."""
    with acting_as("worker:sweep"):
        try:
            prices_begin()
            runs_sweep()
        except UNUSABLE as error:
            # The control database: a tenant's does not stop a sweep.
            extra = {"action": "runs.sweep", "error": type(error).__name__, "reason": reason_of(error)}
            logger.warning("sweep skipped, the control database cannot be used", extra=extra)


@shared_task(name=COMPARE_COSTS, ignore_result=True)
def compare_costs() -> None:
    """Compare the daily costs of active and suspended tenants with their calls; log and record differences."""
    with acting_as("worker:costs"):
        costs_compare()
