"""A step from its claim to its output, against a provider over HTTP."""

import json
import logging
import resource
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditLog
from config.stack.process import wait_until
from llm.types import LLMReply, TokenUsage
from prompts.models import Prompt
from prompts.services import prompt_activate, prompt_create
from runs.models import Artifact, Call, Run, RunCost, RunStatus, Step, StepStatus
from runs.output import encode
from runs.steps.call import CallEnd, call_begin
from runs.steps.claim import step_claim
from runs.steps.execute import _output_of, step_execute
from runs.steps.finish import EndedCall, step_complete
from runs.steps.in_flight import Flight
from runs.steps.prepare import prepare
from runs.storage import artifact_path, output_path, read, write
from runs.types import Claim, StepOutcome, StepOutput
from tenants.errors import TenantError, TenantNotActive
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tenants.routing.pool import pool
from tenants.schema.inspection import database_of
from tenants.servers.session import owner_url
from tests.runs.driving import STEPS, execute, finish, messages_sent, reload, standard_model
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM
from tests.support.s3 import S3Server

MakeRun = Callable[..., Run]


def step_of(tenant: Tenant, run: Run, step: str) -> Step:
    with tenant_context(tenant) as alias:
        return Step.objects.using(alias).get(run_id=run.pk, step=step)


def change_step(tenant: Tenant, run: Run, step: str, **values: object) -> None:
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run_id=run.pk, step=step).update(**values)


def claim(tenant: Tenant, run: Run, step: str, owner: str = "worker@test") -> Claim | None:
    with tenant_context(tenant) as alias:
        return step_claim(alias=alias, tenant_id=tenant.pk, run_id=run.pk, step=step, owner=owner)


def actions(tenant: Tenant) -> list[str]:
    with tenant_context(tenant) as alias:
        return list(AuditLog.objects.using(alias).order_by("id").values_list("action", flat=True))


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start `work` in a thread that closes its control connection at the end; return the thread."""

    def work_and_close() -> None:
        try:
            work()
        finally:
            connections["default"].close()

    thread = threading.Thread(target=work_and_close)
    thread.start()
    return thread


def test_a_run_goes_through_its_steps_to_the_article(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.extend(Answer(text=f"# Text of {step}\n\n本文") for step in STEPS)
    assert finish(tenant, run) == ["completed"] * 4
    with tenant_context(tenant) as alias:
        done = Run.objects.using(alias).get(pk=run.pk)
        assert (done.status, done.current_step) == (RunStatus.COMPLETED, None)
        article = Artifact.objects.using(alias).get(run=run, step="final")
        assert article.file_path == f"storage/{tenant.pk}/{run.pk}/final/artifacts/article.md"
        assert read(article.file_path, article.digest).decode() == "# Text of final\n\n本文"
        names = [path.rsplit("/", 1)[1] for path in Artifact.objects.using(alias).values_list("file_path", flat=True)]
        assert sorted(names) == ["article.md", "draft.md", "keyword_analysis.md", "outline.md"]


def test_a_completed_step_keeps_the_result_contract(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(text="## Search intent\n\nText."))
    assert execute(tenant, run, "keyword_analysis") == "completed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.output_path == f"storage/{tenant.pk}/{run.pk}/keyword_analysis/output.json"
    assert row.summary == "Search intent"
    assert row.token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    assert row.metrics is not None and row.metrics["characters"] == 23
    assert (row.retry_count, row.error_message, row.lease_token) == (0, None, 1)
    assert row.started_at is not None and row.completed_at is not None and row.started_at <= row.completed_at
    with tenant_context(tenant):
        document = json.loads(read(str(row.output_path), row.output_digest))
    assert (document["run_id"], document["step"], document["model"]) == (str(run.pk), "keyword_analysis", row.llm_model)
    assert document["text"] == "## Search intent\n\nText."
    assert (document["input_tokens"], document["finish_reason"]) == (INPUT_TOKENS, "stop")


def test_prompts_get_the_outputs_of_earlier_steps(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.extend(Answer(text=f"MADE BY {step}") for step in STEPS)
    finish(tenant, run)
    assert ["coffee grinder" in prompt for prompt in fake_llm.prompts] == [True] * 4
    assert "MADE BY keyword_analysis" in fake_llm.prompts[1]
    assert "MADE BY outline" in fake_llm.prompts[2]
    assert "MADE BY draft" in fake_llm.prompts[3]


def test_every_transition_is_audited_by_the_worker_without_content(tenant: Tenant, run: Run) -> None:
    finish(tenant, run)
    assert actions(tenant)[-11:] == [
        "run.create",
        "run.start",
        *("step.start", "step.complete") * 4,
        "run.complete",
    ]
    with tenant_context(tenant) as alias:
        logged = json.dumps(list(AuditLog.objects.using(alias).values_list("details", flat=True)))
    assert "coffee" not in logged and "Text" not in logged


def test_each_completed_step_wakes_the_next_one_and_carries_ids_alone(tenant: Tenant, run: Run) -> None:
    assert messages_sent() == [(tenant.pk, str(run.pk), "keyword_analysis")]
    execute(tenant, run, "keyword_analysis")
    assert messages_sent() == [(tenant.pk, str(run.pk), "outline")]


def test_a_repeated_or_early_wake_up_does_nothing(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    assert execute(tenant, run, "draft") == "not claimed"
    execute(tenant, run, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis") == "not claimed"
    assert execute(tenant, run, "no_such_step") == "not claimed"
    assert len(fake_llm.prompts) == 1


def test_of_many_claims_at_once_exactly_one_wins(tenant: Tenant, run: Run, settings: Settings) -> None:
    settings.TENANT_CONNECTIONS_MAX = 16
    won: list[Claim] = []
    together = threading.Barrier(10)

    def try_it(number: int) -> None:
        together.wait()
        made = claim(tenant, run, "keyword_analysis", owner=f"worker-{number}")
        if made is not None:
            won.append(made)

    threads = [in_thread(partial(try_it, number)) for number in range(10)]
    for thread in threads:
        thread.join()
    assert [made.token for made in won] == [1]
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.status, row.lease_token, row.retry_count) == (StepStatus.RUNNING, 1, 0)
    assert actions(tenant).count("step.start") == 1


def test_a_claimed_step_is_not_claimed_again_before_its_lease_ends(tenant: Tenant, run: Run) -> None:
    assert claim(tenant, run, "keyword_analysis") is not None
    assert claim(tenant, run, "keyword_analysis") is None
    change_step(tenant, run, "keyword_analysis", lease_expires_at=timezone.now() - timedelta(seconds=1))
    second = claim(tenant, run, "keyword_analysis", owner="other")
    assert second is not None and (second.token, second.attempt) == (2, 2)
    assert step_of(tenant, run, "keyword_analysis").lease_owner == "other"


def lapse(tenant: Tenant, run: Run, step: str) -> None:
    change_step(tenant, run, step, lease_expires_at=timezone.now() - timedelta(seconds=1))


def output_for(tenant: Tenant, held: Claim, text: str = "stale") -> StepOutput:
    with tenant_context(tenant) as alias:
        work = prepare(alias=alias, claim=held)
    reply = LLMReply(text=text, usage=TokenUsage(7, 7), model=held.model, finish_reason="stop")
    return _output_of(Flight(held), work, reply)


def test_a_worker_that_lost_its_lease_can_neither_complete_nor_overwrite(tenant: Tenant, run: Run) -> None:
    stale = claim(tenant, run, "keyword_analysis")
    assert stale is not None
    output = output_for(tenant, stale)
    lapse(tenant, run, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis", owner="other") == "completed"
    before = step_of(tenant, run, "keyword_analysis")
    with tenant_context(tenant) as alias:
        with pytest.raises(Exception, match="no longer has the claim on step"):
            step_complete(alias=alias, claim=stale, output=output, llm_seconds=1.0, adopted=False)
        after = Step.objects.using(alias).get(pk=before.pk)
        assert (after.output_digest, after.token_usage) == (before.output_digest, before.token_usage)
        assert b"stale" not in read(str(after.output_path), after.output_digest)
        assert Artifact.objects.using(alias).filter(run=run).count() == 1


def test_a_late_answer_is_dropped_where_the_step_was_taken_over(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, short_lease: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    fake_llm.answers.append(Answer(text="late", gate=gate))
    # As if this worker were frozen.
    monkeypatch.setattr("runs.steps.in_flight.InFlight._renew_all", lambda *_: None)
    outcomes: list[StepOutcome] = []
    slow = in_thread(lambda: outcomes.append(execute(tenant, run, "keyword_analysis")))
    assert fake_llm.asked.wait(30)
    wait_until_lapsed(tenant, run, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis", owner="other") == "completed"
    gate.set()
    slow.join()
    assert outcomes == ["lost"]
    row = step_of(tenant, run, "keyword_analysis")
    assert row.lease_owner == "other" and row.summary == "Answer 2"


def wait_until_lapsed(tenant: Tenant, run: Run, step: str) -> None:
    def lapsed() -> bool:
        with tenant_context(tenant) as alias:
            return Step.objects.using(alias).filter(run_id=run.pk, step=step, lease_expires_at__lt=Now()).exists()

    assert wait_until(lapsed, 10.0)


def test_the_lease_is_renewed_while_the_model_thinks(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, short_lease: None
) -> None:
    gate = threading.Event()
    fake_llm.answers.append(Answer(gate=gate))
    worker = in_thread(lambda: execute(tenant, run, "keyword_analysis"))
    assert fake_llm.asked.wait(30)
    first = step_of(tenant, run, "keyword_analysis").lease_expires_at

    def renewed_thrice() -> bool:
        now = step_of(tenant, run, "keyword_analysis").lease_expires_at
        assert now is not None and first is not None
        return now - first > timedelta(seconds=0.6)

    assert wait_until(renewed_thrice, 20.0)
    assert execute(tenant, run, "keyword_analysis", owner="other") == "not claimed"
    gate.set()
    worker.join()
    assert step_of(tenant, run, "keyword_analysis").status == StepStatus.COMPLETED
    assert len(fake_llm.prompts) == 1


def test_no_connection_of_the_tenant_is_held_while_the_model_thinks(
    tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    held: list[int] = []
    reply_to = fake_llm.reply_to

    def looking(request: dict[str, object]) -> Answer:
        held.append(len(pool._in_use))
        return reply_to(request)

    fake_llm.reply_to = looking  # type: ignore[method-assign]
    execute(tenant, run, "keyword_analysis")
    assert held == [0]


def test_an_output_that_was_written_before_a_crash_is_adopted(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    killed = claim(tenant, run, "keyword_analysis")
    assert killed is not None
    output = output_for(tenant, killed, text="# Written before the crash")
    with tenant_context(tenant):
        write(output_path(run.pk, "keyword_analysis"), encode(output))
    lapse(tenant, run, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis") == "completed"
    assert fake_llm.prompts == []
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.summary, row.token_usage, row.retry_count) == ("Written before the crash", {"input": 7, "output": 7}, 0)
    assert row.metrics is not None and row.metrics["adopted"] is True


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"text": "x"}', b"\xff\xfe", b'{"run_id": 5, "text_digest": ""}']
)
def test_a_broken_output_is_not_adopted(tenant: Tenant, run: Run, fake_llm: FakeLLM, content: bytes) -> None:
    with tenant_context(tenant):
        write(output_path(run.pk, "keyword_analysis"), content)
    assert execute(tenant, run, "keyword_analysis") == "completed"
    assert len(fake_llm.prompts) == 1


def test_an_output_for_another_prompt_is_not_adopted(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    killed = claim(tenant, run, "keyword_analysis")
    assert killed is not None
    output = output_for(tenant, killed)
    other = StepOutput(**{**output.__dict__, "input_digest": "0" * 64})
    with tenant_context(tenant):
        write(output_path(run.pk, "keyword_analysis"), encode(other))
    lapse(tenant, run, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis") == "completed"
    assert len(fake_llm.prompts) == 1


def test_a_rate_limit_is_waited_for_as_long_as_the_provider_asks(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    messages_sent()
    fake_llm.answers.append(Answer(status=429, text="slow down", headers={"Retry-After": "120"}))
    assert execute(tenant, run, "keyword_analysis") == "retried"
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.status, row.retry_count, row.lease_expires_at) == (StepStatus.PENDING, 1, None)
    assert row.error_message is not None and "slow down" in row.error_message
    assert row.not_before is not None and 115 < (row.not_before - timezone.now()).total_seconds() <= 121
    assert messages_sent() == [(tenant.pk, str(run.pk), "keyword_analysis")]
    assert execute(tenant, run, "keyword_analysis") == "not claimed"
    change_step(tenant, run, "keyword_analysis", not_before=timezone.now())
    assert execute(tenant, run, "keyword_analysis") == "completed"
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.retry_count, row.error_message, row.lease_token) == (1, None, 2)
    assert actions(tenant).count("step.retry") == 1


@pytest.fixture
def kept_no_time(settings: Settings) -> None:
    """Give up immediately on a reply that cannot be stored."""
    settings.RUN_REPLY_KEPT_S = 0


def attempts(tenant: Tenant, run: Run, count: int) -> list[StepOutcome]:
    """Try the first step `count` times, without waiting for the delays between attempts; return the outcomes."""
    outcomes = []
    for _attempt in range(count):
        outcomes.append(execute(tenant, run, "keyword_analysis"))
        change_step(tenant, run, "keyword_analysis", not_before=None)
    return outcomes


def test_an_unusable_reply_is_tried_again_until_no_attempt_is_left(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, settings: Settings
) -> None:
    """Each unusable reply may be billed, so their number is limited."""
    settings.RUN_MAX_ATTEMPTS = 3
    fake_llm.answers.extend([Answer(text=" ")] * 3)
    assert attempts(tenant, run, 3) == ["retried", "retried", "failed"]
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.status, row.retry_count) == (StepStatus.FAILED, 2)
    assert row.error_message is not None and row.error_message.endswith("(given up after 3 unusable replies)")
    failed = reload(tenant, run)
    assert (failed.status, failed.current_step) == (RunStatus.FAILED, "keyword_analysis")
    assert execute(tenant, run, "keyword_analysis") == "not claimed"


def test_an_outage_is_outlasted_however_many_attempts_that_takes(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, settings: Settings
) -> None:
    settings.RUN_MAX_ATTEMPTS = 2
    fake_llm.answers.extend([Answer(status=503, text="out of order")] * 12)
    assert attempts(tenant, run, 13) == ["retried"] * 12 + ["completed"]
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.retry_count, row.failing_since) == (12, None)


def test_a_step_is_given_up_once_its_time_budget_is_spent(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, settings: Settings
) -> None:
    settings.RUN_RETRY_BUDGET_S = 3600
    fake_llm.answers.extend([Answer(status=503, text="out of order")] * 3)
    assert attempts(tenant, run, 2) == ["retried", "retried"]
    change_step(tenant, run, "keyword_analysis", failing_since=timezone.now() - timedelta(seconds=3601))
    assert execute(tenant, run, "keyword_analysis") == "failed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None and row.error_message.endswith("(given up after 3601 s and 3 failed attempts)")


def test_a_runs_own_time_budget_counts(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
    run = make_run(tenant, retry_budget_s=60)
    fake_llm.answers.extend([Answer(status=503)] * 2)
    assert execute(tenant, run, "keyword_analysis") == "retried"
    change_step(tenant, run, "keyword_analysis", failing_since=timezone.now() - timedelta(seconds=61), not_before=None)
    assert execute(tenant, run, "keyword_analysis") == "failed"


def test_a_truncated_reply_is_asked_for_once_more_with_a_larger_limit(
    tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    fake_llm.answers.append(Answer(text="# Half", truncated=True))
    assert attempts(tenant, run, 2) == ["retried", "completed"]
    limits = [request["max_completion_tokens"] for request in fake_llm.requests]
    assert limits[1] == 2 * limits[0]
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.is_truncated, row.summary) == (False, "Answer 2")
    # Both calls were paid for.
    assert row.token_usage == {"input": 2 * INPUT_TOKENS, "output": 2 * OUTPUT_TOKENS}


def test_a_reply_that_is_truncated_again_fails_the_run(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.extend([Answer(text="# Half", truncated=True)] * 2)
    assert attempts(tenant, run, 2) == ["retried", "failed"]
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None and "ended at the limit of" in row.error_message
    assert (row.output_path, reload(tenant, run).status) == (None, RunStatus.FAILED)


@pytest.mark.parametrize(
    ("text", "sentence"), [("# Half", "ended because its context window was full"), ("", "filled its context window")]
)
def test_a_full_context_window_is_no_reason_for_a_larger_limit(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, text: str, sentence: str
) -> None:
    fake_llm.answers.append(Answer(text=text, finish="model_context_window_exceeded"))
    assert execute(tenant, run, "keyword_analysis") == "failed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None and sentence in row.error_message
    assert "Shorten the prompt" in row.error_message
    assert len(fake_llm.prompts) == 1


@pytest.mark.parametrize(("policy", "outcome"), [("accept", "completed"), ("fail", "failed")])
def test_a_run_chooses_what_becomes_of_truncated_replies(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM, policy: str, outcome: str
) -> None:
    run = make_run(tenant, on_truncation=policy)
    fake_llm.answers.append(Answer(text="# Half", truncated=True))
    assert execute(tenant, run, "keyword_analysis") == outcome
    assert step_of(tenant, run, "keyword_analysis").is_truncated == (policy == "accept")
    assert len(fake_llm.prompts) == 1


def test_a_permanent_error_fails_the_run_with_the_providers_message(
    tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    fake_llm.answers.append(Answer(status=400, text="This model does not like you"))
    assert execute(tenant, run, "keyword_analysis") == "failed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None and "This model does not like you" in row.error_message
    assert reload(tenant, run).status == RunStatus.FAILED
    assert actions(tenant)[-2:] == ["step.fail", "run.fail"]
    assert len(fake_llm.prompts) == 1


def test_the_tokens_of_failed_attempts_count(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    fake_llm.answers.append(Answer(text="   "))  # no text, but billed
    assert execute(tenant, run, "keyword_analysis") == "retried"
    assert step_of(tenant, run, "keyword_analysis").token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    change_step(tenant, run, "keyword_analysis", not_before=None)
    execute(tenant, run, "keyword_analysis")
    usage = step_of(tenant, run, "keyword_analysis").token_usage
    assert usage == {"input": 2 * INPUT_TOKENS, "output": 2 * OUTPUT_TOKENS}


def test_a_later_price_does_not_rewrite_the_cost(tenant: Tenant, run: Run) -> None:
    model = standard_model()
    before = (model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens)
    model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens = Decimal("0.5"), Decimal("2")
    model.save()
    try:
        execute(tenant, run, "keyword_analysis")
        model.cost_per_1k_input_tokens = Decimal("99")
        model.save()
        with tenant_context(tenant) as alias:
            cost = RunCost.objects.using(alias).get(run=run)
    finally:
        model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens = before
        model.save()
    assert cost.total_llm_cost == Decimal("0.9")  # 1000/1000 * 0.5 + 200/1000 * 2
    assert (cost.total_input_tokens, cost.total_output_tokens, cost.unpriced_steps) == (1000, 200, 0)


def test_an_earlier_output_that_was_changed_fails_the_step(tenant: Tenant, run: Run, settings: Settings) -> None:
    execute(tenant, run, "keyword_analysis")
    path = str(step_of(tenant, run, "keyword_analysis").output_path)
    with tenant_context(tenant):
        write(path, b"{}")
    assert execute(tenant, run, "outline") == "failed"
    row = step_of(tenant, run, "outline")
    assert row.error_message is not None
    assert row.error_message.startswith(f"Storage: the sha256 of {path} differs from the recorded one.")


def test_a_storage_that_cannot_be_written_has_the_step_tried_again(
    tenant: Tenant, run: Run, settings: Settings, kept_no_time: None
) -> None:
    broken = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": "/dev/full"}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": broken}
    assert execute(tenant, run, "keyword_analysis") == "retried"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None and "cannot be read: Not a directory" in row.error_message


def test_a_disk_that_is_full_has_the_step_tried_again_and_its_tokens_counted(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, kept_no_time: None
) -> None:
    """A limit on file sizes simulates a full disk: writing fails in the same place."""
    fake_llm.answers.extend([Answer(text="x" * 20_000)] * 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert execute(tenant, run, "keyword_analysis") == "retried"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message is not None
    assert "keyword_analysis/output.json cannot be written: File too large." in row.error_message
    assert row.token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    change_step(tenant, run, "keyword_analysis", not_before=None)
    assert execute(tenant, run, "keyword_analysis") == "completed"
    usage = step_of(tenant, run, "keyword_analysis").token_usage
    assert usage == {"input": 2 * INPUT_TOKENS, "output": 2 * OUTPUT_TOKENS}


def test_an_output_without_its_artifact_is_adopted_and_its_tokens_counted_once(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, kept_no_time: None
) -> None:
    with tenant_context(tenant):
        in_the_way = Path(settings.STORAGE_ROOT) / artifact_path(run.pk, "keyword_analysis", "x.md")
    in_the_way.parent.parent.mkdir(parents=True)
    in_the_way.parent.write_bytes(b"no folder")
    assert execute(tenant, run, "keyword_analysis") == "retried"
    assert step_of(tenant, run, "keyword_analysis").token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    in_the_way.parent.unlink()
    change_step(tenant, run, "keyword_analysis", not_before=None)
    assert execute(tenant, run, "keyword_analysis") == "completed"
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.token_usage, len(fake_llm.prompts)) == ({"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}, 1)


def called(tenant: Tenant, held: Claim, text: str) -> StepOutput:
    """Begin a call, and return an output that belongs to it."""
    with tenant_context(tenant) as alias:
        call_id = call_begin(alias=alias, claim=held, max_input_tokens=100, max_output_tokens=100)
    return replace(output_for(tenant, held, text=text), call_id=call_id)


def test_an_output_that_a_late_worker_wrote_first_is_kept(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    """The worker was frozen just before it wrote; both answers were paid for."""
    late = claim(tenant, run, "keyword_analysis")
    assert late is not None
    output = called(tenant, late, "# Late")
    lapse(tenant, run, "keyword_analysis")
    holder = claim(tenant, run, "keyword_analysis", owner="other")
    assert holder is not None
    own = called(tenant, holder, "# Own")
    assert output.call_id and own.call_id
    call = EndedCall(own.call_id, CallEnd(own.token_usage))
    with tenant_context(tenant) as alias:
        write(output_path(run.pk, "keyword_analysis"), encode(output))
        step_complete(alias=alias, claim=holder, output=own, llm_seconds=1.0, adopted=False, call=call)
        calls = Call.objects.using(alias).filter(run=run).values_list("status", "token_usage")
        assert list(calls) == [("settled", {"input": 7, "output": 7})] * 2
        row = Step.objects.using(alias).get(run_id=run.pk, step="keyword_analysis")
        assert read(str(row.output_path), row.output_digest) == encode(output)
        artifact = Artifact.objects.using(alias).get(run=run)
        assert read(artifact.file_path, artifact.digest) == b"# Late"
    assert (row.summary, row.token_usage) == ("Late", {"input": 14, "output": 14})
    assert row.metrics is not None and row.metrics["adopted"] is True


def test_an_answer_is_kept_while_the_tenant_is_locked(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, limits: Callable[..., None]
) -> None:
    """During a migration, for example: the answer is paid for, so the worker retries for a while."""
    limits(lock_timeout_s=0.2)
    gate = threading.Event()
    fake_llm.answers.append(Answer(gate=gate))
    outcomes: list[StepOutcome] = []
    worker = in_thread(lambda: outcomes.append(execute(tenant, run, "keyword_analysis")))
    assert fake_llm.asked.wait(30)
    assert tenant.server is not None
    url = owner_url(tenant.server, database_of(tenant))
    waited = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s)"
    with psycopg.connect(url) as holder, psycopg.connect(tenant.server.admin_url, autocommit=True) as watch:
        holder.execute("LOCK TABLE steps IN ACCESS EXCLUSIVE MODE")
        gate.set()
        for _attempt in range(2):
            for waits in (True, False):
                assert wait_until(lambda w=waits: watch.execute(waited, [database_of(tenant)]).fetchone() == (w,), 30)  # type: ignore[misc]
    worker.join()
    assert outcomes == ["completed"]


def test_a_run_on_s3_leaves_the_same_files(tenant: Tenant, s3: S3Server, run: Run) -> None:
    assert finish(tenant, run) == ["completed"] * 4
    with tenant_context(tenant) as alias:
        for artifact in Artifact.objects.using(alias).filter(run=run):
            assert read(artifact.file_path, artifact.digest).startswith(b"# Answer")
        for step in Step.objects.using(alias).filter(run=run):
            assert read(str(step.output_path), step.output_digest)


def test_a_defect_fails_the_step_with_its_class_alone(
    tenant: Tenant, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str) -> str:
        raise ZeroDivisionError("secret content")

    monkeypatch.setattr("runs.steps.finish.summary_of", broken)
    with caplog.at_level(logging.ERROR):
        assert execute(tenant, run, "keyword_analysis") == "failed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message == "Unexpected error (ZeroDivisionError); see the worker's log."
    assert row.token_usage == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    record = next(record for record in caplog.records if record.name == "runs.steps.execute")
    assert (record.getMessage(), record.__dict__["tenant"], record.exc_info is not None) == (
        "step failed",
        tenant.pk,
        True,
    )


def test_a_step_that_loses_every_worker_fails_eventually(tenant: Tenant, run: Run, settings: Settings) -> None:
    settings.RUN_MAX_LOST_WORKERS = 2
    for _worker in range(2):
        assert claim(tenant, run, "keyword_analysis") is not None
        lapse(tenant, run, "keyword_analysis")
    assert claim(tenant, run, "keyword_analysis") is None
    row = step_of(tenant, run, "keyword_analysis")
    assert (row.status, row.error_message) == (StepStatus.FAILED, "The worker was lost during 2 attempts in a row.")
    assert reload(tenant, run).status == RunStatus.FAILED


def test_a_paused_run_finishes_its_step_and_wakes_no_worker(tenant: Tenant, run: Run) -> None:
    held = claim(tenant, run, "keyword_analysis")
    assert held is not None
    output = output_for(tenant, held)
    messages_sent()
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run.pk).update(status=RunStatus.PAUSED)
        step_complete(alias=alias, claim=held, output=output, llm_seconds=0.1, adopted=False)
    paused = reload(tenant, run)
    assert (paused.status, paused.current_step) == (RunStatus.PAUSED, "outline")
    assert messages_sent() == []
    assert execute(tenant, run, "outline") == "not claimed"


def test_a_pinned_run_keeps_its_prompt_when_another_version_becomes_active(
    tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    keyword: dict[str, object] = {"name": "keyword", "type": "string", "required": True}
    with tenant_context(tenant) as alias:
        new = prompt_create(
            alias=alias, step="keyword_analysis", content="NEW {{ keyword }}", variables=[keyword], note="n"
        )
        prompt_activate(alias=alias, prompt_id=new.pk)
    execute(tenant, run, "keyword_analysis")
    assert not fake_llm.prompts[0].startswith("NEW")
    with tenant_context(tenant) as alias:
        used = Prompt.objects.using(alias).get(pk=step_of(tenant, run, "keyword_analysis").prompt_id)
    assert used.version == 1


def test_a_step_without_a_pinned_prompt_fails_with_a_sentence(tenant: Tenant, run: Run) -> None:
    change_step(tenant, run, "keyword_analysis", prompt=None)
    assert execute(tenant, run, "keyword_analysis") == "failed"
    row = step_of(tenant, run, "keyword_analysis")
    assert row.error_message == f"Run {run.pk}: no prompt is pinned for step keyword_analysis."


def test_a_suspended_tenants_step_is_not_claimed(tenant: Tenant, run: Run, fake_llm: FakeLLM) -> None:
    tenant_suspend(tenant_id=tenant.pk)
    with pytest.raises(TenantNotActive):
        step_execute(tenant_id=tenant.pk, run_id=run.pk, step="keyword_analysis", owner="w")
    tenant_resume(tenant_id=tenant.pk)
    assert execute(tenant, run, "keyword_analysis") == "completed"


@pytest.mark.parametrize("answer", [Answer(), Answer(truncated=True), Answer(status=503)])
def test_what_a_call_used_is_counted_although_the_tenant_is_suspended_meanwhile(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, answer: Answer
) -> None:
    """The call is settled immediately, and the step continues once the tenant is resumed.

    A complete reply is then adopted.
    """
    gate = threading.Event()
    fake_llm.answers.append(replace(answer, gate=gate))
    errors: list[TenantError] = []

    def work() -> None:
        try:
            execute(tenant, run, "keyword_analysis")
        except TenantError as error:
            errors.append(error)

    worker = in_thread(work)
    assert fake_llm.asked.wait(30)
    tenant_suspend(tenant_id=tenant.pk)
    gate.set()
    worker.join()
    assert [type(error) for error in errors] == [TenantNotActive]
    tenant_resume(tenant_id=tenant.pk)
    billed = {} if answer.status == 503 else {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
    assert (step_of(tenant, run, "keyword_analysis").token_usage or {}) == billed
    with tenant_context(tenant) as alias:
        call = Call.objects.using(alias).get(run=run)
        Step.objects.using(alias).filter(run=run).update(lease_expires_at=Now() - timedelta(seconds=1))
    assert (call.status, call.token_usage, call.request_id) == ("settled", billed, fake_llm.ledger[0].request_id)
    assert execute(tenant, run, "keyword_analysis") == "completed"
    adopted = answer == Answer()
    assert len(fake_llm.prompts) == (1 if adopted else 2)
    with tenant_context(tenant) as alias:
        calls = list(Call.objects.using(alias).filter(run=run))
    assert {call.status for call in calls} == {"settled"}
    assert sum(call.token_usage["input"] for call in calls if call.token_usage) == (
        step_of(tenant, run, "keyword_analysis").token_usage or {}
    ).get("input")


def test_runs_of_two_tenants_are_apart(tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun) -> None:
    one, other = tenant_pair
    run = make_run(one)
    assert execute(other, run, "keyword_analysis") == "not claimed"
    finish(one, run)
    with tenant_context(other) as alias:
        assert not Run.objects.using(alias).exists()
        assert not Step.objects.using(alias).exists()
        assert not Artifact.objects.using(alias).exists()
        assert not RunCost.objects.using(alias).exists()
