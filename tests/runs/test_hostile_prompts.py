"""A prompt that needs too much time or memory fails its own step; other tenants' runs complete meanwhile."""

from collections.abc import Callable
from functools import partial

import pytest

from prompts.services import prompt_activate, prompt_create
from runs.models import WORKING, Run, RunStatus, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.worker import wait_for, worker

MakeRun = Callable[..., Run]
KEYWORD: dict[str, object] = {"name": "keyword", "type": "string", "required": True}
HOSTILE = {
    "time": "{{ keyword }}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ keyword * 10**9 }}",
}
# More than the worker has processes.
RUNS = 3


def use(tenant: Tenant, content: str) -> None:
    with tenant_context(tenant) as alias:
        prompt = prompt_create(alias=alias, step="keyword_analysis", content=content, variables=[KEYWORD], note="n")
        prompt_activate(alias=alias, prompt_id=prompt.pk)


def over(tenant: Tenant, run: Run) -> bool:
    return reload(tenant, run).status not in WORKING


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_fails_the_step_and_does_another_tenants_run_meanwhile(
    tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun, fake_llm: FakeLLM, pool: str
) -> None:
    hostile, other = tenant_pair
    use(hostile, HOSTILE["time"])
    stuck = [make_run(hostile) for _ in range(RUNS)]
    with tenant_context(hostile):
        use(hostile, HOSTILE["memory"])
    stuck += [make_run(hostile) for _ in range(RUNS)]
    with worker("--pool", pool):
        run = make_run(other)
        wait_for(partial(over, other, run))
        for each in stuck:
            wait_for(partial(over, hostile, each))
    assert reload(other, run).status == RunStatus.COMPLETED
    with tenant_context(hostile) as alias:
        steps = Step.objects.using(alias).filter(run__in=[each.pk for each in stuck], step="keyword_analysis")
        assert {step.status for step in steps} == {StepStatus.FAILED}
        # It fails immediately, since another attempt would end in the same way.
        assert {step.retry_count for step in steps} == {0}
        reasons = [step.error_message or "" for step in steps.order_by("id")]
    assert all("(keyword_analysis v2) cannot be rendered. It takes too long" in text for text in reasons[:RUNS])
    assert all("(keyword_analysis v3) cannot be rendered. It needs more than 256 M" in text for text in reasons[RUNS:])
    assert len(fake_llm.prompts) == 4
