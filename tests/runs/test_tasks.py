"""The task that a wake-up starts, run in this process on the session's queues."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runs.models import Run, RunStatus
from runs.tasks import execute_step
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, execute, reload

MakeRun = Callable[..., Run]
FIRST = STEPS[0]


def wake_up(tenant: Tenant, run: Run) -> None:
    execute_step.apply(args=(tenant.pk, str(run.pk), FIRST)).get()


def test_a_turn_of_no_use_does_not_use_up_the_message(tenant: Tenant, make_run: MakeRun) -> None:
    """A worker that could not reach the queues has executed the first run's step, which is still waiting in a queue."""
    first, second = (make_run(tenant, steps=(FIRST,)) for _ in range(2))
    assert execute(tenant, first, FIRST) == "completed"
    wake_up(tenant, second)
    assert reload(tenant, second).status == RunStatus.COMPLETED


def test_a_tenant_that_cannot_be_used_does_not_use_up_anothers_message(
    tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun
) -> None:
    suspended, other = tenant_pair
    make_run(suspended, steps=(FIRST,))
    run = make_run(other, steps=(FIRST,))
    Tenant.objects.filter(pk=suspended.pk).update(status="suspended")
    try:
        wake_up(other, run)
        assert reload(other, run).status == RunStatus.COMPLETED
    finally:
        Tenant.objects.filter(pk=suspended.pk).update(status="active")


def test_a_wake_up_whose_step_is_done_ends(tenant: Tenant, make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tenant, steps=(FIRST,))
    for _ in range(2):
        wake_up(tenant, run)
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).get(pk=run.pk).status == RunStatus.COMPLETED
    assert not caplog.records or "Traceback" not in caplog.text
