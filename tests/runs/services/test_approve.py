"""Reviews: a run does not continue before a person approves it or sends it back, and a comment reaches the model."""

from __future__ import annotations

import pytest

from audit.log.actor import acting_as
from audit.models import AuditLog
from prompts.services import prompt_activate, prompt_create
from runs.errors import InvalidReviewComment, InvalidRunStep
from runs.models import PauseCause, RunStatus
from runs.services.approve import MAX_COMMENT_CHARS, run_approve, run_send_back
from runs.services.resume import run_resume
from runs.storage import digest_of
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import STEPS, execute, finish, reload
from tests.runs.fake_llm import FakeLLM
from tests.runs.services.states import COMMENT, FIRST, REVIEWED, InState, MakeRun, change_step, in_state, steps_of

__all__ = ["in_state"]


def test_a_run_waits_before_a_step_with_a_review_and_continues_once_it_is_approved(
    tenant: Tenant, make_run: MakeRun
) -> None:
    run = make_run(tenant)
    change_step(tenant, run, "final", review=True)
    assert finish(tenant, run) == ["completed"] * 3 + ["not claimed"]
    waiting = reload(tenant, run)
    assert (waiting.status, waiting.pause_cause, waiting.current_step) == ("paused", PauseCause.REVIEW, "final")
    with acting_as("staff:bob"):
        run_approve(tenant_id=tenant.pk, run_id=run.pk)
    step = steps_of(tenant, run)["final"]
    assert step.approved_by == "staff:bob" and step.approved_at is not None
    assert finish(tenant, run) == ["completed"]
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).get(action="run.approve")
    assert (entry.user_id, entry.details) == ("staff:bob", {"step": "final"})


def test_the_next_attempt_gets_the_comment_and_the_run_comes_back_to_the_review(
    tenant: Tenant, in_state: InState, fake_llm: FakeLLM
) -> None:
    run = in_state("in review")
    assert COMMENT not in fake_llm.prompts[-1]
    run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=f"\n{COMMENT}\n")
    assert execute(tenant, run, FIRST) == "completed"
    assert COMMENT in fake_llm.prompts[-1]
    assert (steps_of(tenant, run)[FIRST].version, steps_of(tenant, run)[FIRST].review_comment) == (2, COMMENT)
    again = reload(tenant, run)
    assert (again.status, again.pause_cause, again.current_step) == ("paused", PauseCause.REVIEW, REVIEWED)
    run_approve(tenant_id=tenant.pk, run_id=run.pk)
    assert finish(tenant, run)[-1] == "completed"
    assert COMMENT not in "".join(fake_llm.prompts[-3:])
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).get(action="run.send_back")
    assert entry.details == {
        "step": FIRST,
        "from": "paused",
        "status": "running",
        "versions": {FIRST: 1},
        "comment_digest": digest_of(COMMENT.encode()),
    }


def test_a_run_is_sent_back_to_an_earlier_step(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
    run = make_run(tenant)
    change_step(tenant, run, "final", review=True)
    finish(tenant, run)
    run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=COMMENT, from_step="outline")
    asked = len(fake_llm.prompts)
    assert finish(tenant, run) == ["completed"] * 2 + ["not claimed"]
    assert [COMMENT in prompt for prompt in fake_llm.prompts[asked:]] == [True, False]
    steps = steps_of(tenant, run)
    assert [steps[step].version for step in STEPS] == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        ("", "The comment is empty."),
        (" \n\u200b", "The comment is empty."),
        ("x" * (MAX_COMMENT_CHARS + 1), "The comment is longer than 4000 characters."),
        ("x" * 1024 * 1024, "The comment is longer than 4000 characters."),
        ("a\x00b", "The comment contains a NUL character or an unpaired surrogate."),
        ("a\ud800b", "The comment contains a NUL character or an unpaired surrogate."),
    ],
)
def test_a_comment_that_cannot_be_used_is_refused(
    comment: str, sentence: str, tenant: Tenant, in_state: InState
) -> None:
    run = in_state("in review")
    with pytest.raises(InvalidReviewComment) as caught:
        run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=comment)
    assert caught.value.message == sentence
    assert reload(tenant, run).status == RunStatus.PAUSED


@pytest.mark.parametrize("comment", ["x" * MAX_COMMENT_CHARS, "「もっと短く」\n{{ keyword }} {% if %}"])
def test_any_other_comment_reaches_the_model_as_it_is(
    comment: str, tenant: Tenant, in_state: InState, fake_llm: FakeLLM
) -> None:
    run = in_state("in review")
    run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=comment)
    assert execute(tenant, run, FIRST) == "completed"
    assert comment in fake_llm.prompts[-1]


def test_a_comment_that_the_prompt_would_not_show_is_refused(tenant: Tenant, make_run: MakeRun) -> None:
    keyword = {"name": "keyword", "type": "string", "required": True}
    with tenant_context(tenant) as alias:
        prompt = prompt_create(alias=alias, step=FIRST, content="{{ keyword }}", variables=[keyword], note="n")
        prompt_activate(alias=alias, prompt_id=prompt.pk)
    run = make_run(tenant)
    change_step(tenant, run, REVIEWED, review=True)
    assert execute(tenant, run, FIRST) == "completed"
    with pytest.raises(InvalidReviewComment) as caught:
        run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=COMMENT)
    assert caught.value.code == "review_comment_unused"
    assert caught.value.message == (
        f"The prompt of step {FIRST} ({FIRST} v2) does not declare review_comment as a string,"
        " so a comment has no effect."
    )
    assert "new version of the prompt" in caught.value.hint
    assert reload(tenant, run).pause_cause == PauseCause.REVIEW


@pytest.mark.parametrize("step", ["outline", "draft", "no_such_step"])
def test_a_run_is_only_sent_back_to_earlier_steps(step: str, tenant: Tenant, in_state: InState) -> None:
    run = in_state("in review")
    sentence = rf"cannot be sent back to step '{step}'\. It can be sent back to: {FIRST}\."
    with pytest.raises(InvalidRunStep, match=sentence):
        run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=COMMENT, from_step=step)


def test_there_is_nothing_to_send_back_before_the_first_step(tenant: Tenant, in_state: InState) -> None:
    run = in_state("held")
    change_step(tenant, run, FIRST, review=True)
    run_resume(tenant_id=tenant.pk, run_id=run.pk)
    with pytest.raises(InvalidRunStep, match="is waiting before its first step"):
        run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment=COMMENT)


def test_a_required_comment_or_one_of_another_type_keeps_runs_from_starting(tenant: Tenant, make_run: MakeRun) -> None:
    keyword = {"name": "keyword", "type": "string", "required": True}
    for comment in ({"type": "string", "required": True}, {"type": "integer"}):
        with tenant_context(tenant) as alias:
            prompt = prompt_create(
                alias=alias,
                step=FIRST,
                content="{{ keyword }} {{ review_comment }}",
                variables=[keyword, {"name": "review_comment", **comment}],
                note="n",
            )
            prompt_activate(alias=alias, prompt_id=prompt.pk)
        with pytest.raises(Exception, match="declares review_comment, but not as an optional string"):
            make_run(tenant)


def test_no_input_may_pose_as_a_reviewers_comment(tenant: Tenant, make_run: MakeRun) -> None:
    with pytest.raises(Exception, match="contains review_comment, which only a reviewer can give"):
        make_run(tenant, review_comment="mine")
