"""Execute the steps of runs as workers do, but in the test's own process and one at a time."""

import json
from uuid import UUID

from celery import current_app

from llm.models import LLMModel
from llm.selectors import resolve_model
from runs.models import Run
from runs.steps.execute import step_execute
from runs.types import StepOutcome
from tenants.models import Tenant
from tenants.routing.context import tenant_context

STEPS = ("keyword_analysis", "outline", "draft", "final")
PROVIDER = "openai"
Message = tuple[str, str, str]


def messages_sent() -> list[Message]:
    """Take all wake-ups off the queue, including delayed ones; return the arguments of each."""
    taken: list[Message] = []
    with current_app.connection_for_read() as connection:
        queue = connection.SimpleQueue(current_app.conf.task_default_queue)
        while True:
            try:
                message = queue.get_nowait()
            except queue.Empty:
                queue.close()
                return taken
            message.ack()
            taken.append(tuple(json.loads(message.body or "")[0]))


def execute(tenant: Tenant, run: Run, step: str, owner: str = "worker@test") -> StepOutcome:
    return step_execute(tenant_id=tenant.pk, run_id=run.pk, step=step, owner=owner)


def finish(tenant: Tenant, run: Run) -> list[StepOutcome]:
    """Execute a run's steps in turn until the run ends or a step does not complete; return the outcomes."""
    outcomes: list[StepOutcome] = []
    while not outcomes or outcomes[-1] == "completed":
        step = reload(tenant, run).current_step
        if step is None:
            break
        outcomes.append(execute(tenant, run, step))
    return outcomes


def reload(tenant: Tenant, run: Run | UUID) -> Run:
    with tenant_context(tenant) as alias:
        return Run.objects.using(alias).get(pk=run if isinstance(run, UUID) else run.pk)


def standard_model() -> LLMModel:
    """Return the model that the steps of `make_run` use."""
    return LLMModel.objects.get(provider_id=PROVIDER, model_name=resolve_model(PROVIDER, "standard").model_name)
