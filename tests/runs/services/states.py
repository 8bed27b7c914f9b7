"""Make runs in each state in which a person can find them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import connections

from llm.types import LLMReply, TokenUsage
from runs.models import Run, Step
from runs.services.approve import run_approve, run_send_back
from runs.services.cancel import run_cancel
from runs.services.create import run_create
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.services.retry import run_retry
from runs.steps.call import CallEnd, call_begin
from runs.steps.claim import step_claim
from runs.steps.execute import _output_of
from runs.steps.finish import EndedCall, step_complete
from runs.steps.in_flight import Flight
from runs.steps.prepare import prepare
from runs.types import Claim, StepOutcome, StepOutput
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, finish
from tests.runs.fake_llm import Answer, FakeLLM

MakeRun = Callable[..., Run]
InState = Callable[..., Run]
FIRST, REVIEWED = "keyword_analysis", "outline"
COMMENT = "Shorter, please."
# How a person calls each transition, given `tenant_id` and `run_id`.
ACTIONS: dict[str, Callable[..., Run]] = {
    "pause": run_pause,
    "resume": run_resume,
    "retry": run_retry,
    "retry from": partial(run_retry, from_step=FIRST),
    "cancel": run_cancel,
    "approve": run_approve,
    "send back": partial(run_send_back, comment=COMMENT),
}


def claim(tenant: Tenant, run: Run, step: str = FIRST) -> Claim | None:
    with tenant_context(tenant) as alias:
        return step_claim(alias=alias, tenant_id=tenant.pk, run_id=run.pk, step=step, owner="worker@test")


def steps_of(tenant: Tenant, run: Run) -> dict[str, Step]:
    with tenant_context(tenant) as alias:
        return {step.step: step for step in Step.objects.using(alias).filter(run_id=run.pk)}


def change_step(tenant: Tenant, run: Run, step: str, **values: object) -> None:
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run_id=run.pk, step=step).update(**values)


def output_of(alias: str, held: Claim, call: EndedCall, text: str) -> StepOutput:
    """Return the output of a call that answered `text`, or the output that an earlier attempt wrote."""
    assert call.end is not None
    work, flight = prepare(alias=alias, claim=held), Flight(held)
    flight.call = call
    usage = TokenUsage(call.end.token_usage["input"], call.end.token_usage["output"])
    reply = LLMReply(text=text, usage=usage, model=held.model, finish_reason="stop")
    return work.finished or _output_of(flight, work, reply)


def complete_by_hand(tenant: Tenant, run: Run, step: str, text: str = "Text.") -> None:
    """Complete a step as a worker does, but without a provider."""
    held = claim(tenant, run, step)
    assert held is not None
    with tenant_context(tenant) as alias:
        call_id = call_begin(alias=alias, claim=held, max_input_tokens=9, max_output_tokens=9)
        assert call_id is not None
        call = EndedCall(call_id, CallEnd({"input": 3, "output": 4}))
        output = output_of(alias, held, call, text)
        step_complete(alias=alias, claim=held, output=output, llm_seconds=0, adopted=False, call=call)


@contextmanager
def call_in_progress(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, step: str = FIRST, *, gate: threading.Event | None = None
) -> Iterator[list[StepOutcome]]:
    """Execute a step in a thread that waits for the model during the block.

    Yield a list, which holds the step's outcome after the block. The model answers at the end of the block, or once
    `gate` is set.
    """
    gate, outcomes = gate or threading.Event(), list[StepOutcome]()
    fake_llm.asked.clear()
    fake_llm.answers.append(Answer(text=f"# Asked for {step}", gate=gate))

    def work() -> None:
        try:
            outcomes.append(execute(tenant, run, step))
        finally:
            connections["default"].close()

    worker = threading.Thread(target=work)
    worker.start()
    assert fake_llm.asked.wait(30)
    try:
        yield outcomes
    finally:
        gate.set()
        worker.join()


def pending(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    return make_run(tenant)


def running(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = make_run(tenant)
    assert claim(tenant, run)
    return run


def between_steps(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = make_run(tenant)
    assert execute(tenant, run, FIRST) == "completed"
    return run


def paused(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = between_steps(tenant, make_run, fake_llm)
    return run_pause(tenant_id=tenant.pk, run_id=run.pk)


def held(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    config = make_run(tenant).config
    assert config is not None
    return run_create(tenant_id=tenant.pk, config=config, hold=True)


def in_review(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = paused(tenant, make_run, fake_llm)
    change_step(tenant, run, REVIEWED, review=True)
    return run_resume(tenant_id=tenant.pk, run_id=run.pk)


def failed(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = between_steps(tenant, make_run, fake_llm)
    fake_llm.answers.append(Answer(status=400, text="no"))
    assert execute(tenant, run, REVIEWED) == "failed"
    return run


def completed(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> Run:
    run = make_run(tenant)
    assert finish(tenant, run)[-1] == "completed"
    return run


STATES: dict[str, Callable[[Tenant, MakeRun, FakeLLM], Run]] = {
    "pending": pending,
    "running": running,
    "between steps": between_steps,
    "paused": paused,
    "held": held,
    "in review": in_review,
    "failed": failed,
    "completed": completed,
}


@pytest.fixture
def in_state(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> InState:
    """Return a function that makes a run in one of the states, of the test's tenant unless another is given."""

    def make(state: str, of: Tenant | None = None) -> Run:
        return STATES[state](of or tenant, make_run, fake_llm)

    return make
