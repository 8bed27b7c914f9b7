"""`run show`: all times, outputs, calls and approvals of a run, and why it is waiting."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import redis
from django.core.cache import caches
from django.core.management import call_command
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditLog
from runs import workers_seen
from runs.models import Artifact, Call, CallStatus, PauseCause, Run, RunStatus, Step
from runs.selectors import run_document
from runs.types import WaitDocument
from runs.workers_seen import KEPT_S, seconds_since_worker, worker_seen
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, finish
from tests.runs.fake_llm import Answer, FakeLLM

FIRST = "keyword_analysis"


def shown(tenant: Tenant, run: Run) -> Any:
    out = StringIO()
    call_command("run_show", "--tenant-id", tenant.pk, "--run-id", str(run.pk), "--json", stdout=out)
    return json.loads(out.getvalue())


def printed(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> str:
    call_command("run_show", "--tenant-id", tenant.pk, "--run-id", str(run.pk))
    return capsys.readouterr().out


def waiting(tenant: Tenant, run: Run) -> WaitDocument | None:
    return run_document(tenant_id=tenant.pk, run_id=run.pk)["waiting"]


def change_run(tenant: Tenant, run: Run, **columns: object) -> None:
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run.pk).update(**columns)


def change_step(tenant: Tenant, run: Run, step: str, **columns: object) -> None:
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step=step).update(**columns)


@pytest.fixture
def no_worker() -> None:
    """Forget when a worker was last seen."""
    workers_seen._client().delete(workers_seen._key())


# -- times, outputs, calls ---------------------------------------------------------------------------------------------


def test_all_times_are_shown(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tenant, run)
    document = shown(tenant, run)
    moments = [document["created_at"], document["started_at"]]
    for step in document["steps"]:
        moments += [step["started_at"], step["completed_at"]]
    moments += [document["ended_at"], document["read_at"]]
    assert None not in moments and moments == sorted(moments)
    assert document["ended_at"] == document["updated_at"]
    assert document["waiting"] is None
    text = printed(tenant, run, capsys)
    for label in ("created", "started", "completed"):
        assert f"{label} {timezone.localtime():%Y-%m-%d}" in text


def test_outputs_have_path_digest_and_version(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tenant, run)
    change_step(tenant, run, "outline", version=3)
    steps = shown(tenant, run)["steps"]
    assert [step["version"] for step in steps] == [1, 3, 1, 1]
    text = printed(tenant, run, capsys)
    for step in steps:
        [line] = [line for line in text.splitlines() if step["output_digest"] in line]
        assert step["output_path"] in line and f" {step['version']} " in line


def test_calls_and_attempts_are_counted(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change_step(tenant, run, FIRST, retry_count=2, lost_count=1)
    with tenant_context(tenant) as alias:
        step = Step.objects.using(alias).get(run=run, step=FIRST)
        for status in (CallStatus.SETTLED, CallStatus.UNKNOWN, CallStatus.UNKNOWN, CallStatus.OPEN):
            Call.objects.using(alias).create(
                run=run,
                step=step,
                status=status,
                version=1,
                attempt=1,
                lease_token=1,
                llm_provider="openai",
                llm_model="m",
                max_input_tokens=1,
                max_output_tokens=1,
            )
    first, second = shown(tenant, run)["steps"][:2]
    assert first["calls"] == {"count": 4, "open": 1, "settled": 1, "unknown": 2}
    assert (first["attempt"], first["retry_count"], first["lost_count"]) == (4, 2, 1)
    assert second["calls"] == {"count": 0, "open": 0, "settled": 0, "unknown": 0} and second["attempt"] == 1
    text = printed(tenant, run, capsys)
    assert "4 (2 unknown)" in text and "2 + 1 lost" in text
    assert "2 calls with unknown cost" in text


def test_approvals_and_comments_are_shown(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change_step(
        tenant, run, "draft", review=True, approved_at=Now(), approved_by="staff:ann", review_comment="Shorter."
    )
    draft = shown(tenant, run)["steps"][2]
    assert (draft["review"], draft["approved_by"], draft["review_comment"]) == (True, "staff:ann", "Shorter.")
    text = printed(tenant, run, capsys)
    assert "Step draft was approved by staff:ann at " in text
    assert "The run was sent back to step draft: Shorter." in text


def test_a_truncated_output_is_marked_wherever_it_is_listed(
    tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tenant, run)
    before = shown(tenant, run)
    assert "truncated" not in printed(tenant, run, capsys)
    assert not before["is_truncated"]
    change_step(tenant, run, "draft", is_truncated=True)
    # What the step made before it was run again is no part of the truncated output.
    with tenant_context(tenant) as alias:
        Artifact.objects.using(alias).create(
            run=run, step="draft", file_type="markdown", file_path="old", metadata={"version": 1}
        )
    document = shown(tenant, run)
    assert document["is_truncated"]
    assert [step["is_truncated"] for step in document["steps"]] == [False, False, True, False]
    marked = {one["file_path"].rsplit("/", 1)[-1]: one["is_truncated"] for one in document["artifacts"]}
    assert marked == {
        "keyword_analysis.md": False,
        "outline.md": False,
        "draft.md": True,
        "article.md": False,
        "old": False,
    }
    assert [one["version"] for one in document["artifacts"]] == [None, None, None, None, 1]
    lines = [line for line in printed(tenant, run, capsys).splitlines() if "(truncated)" in line]
    assert len(lines) == 3
    assert "completed (truncated)" in lines[0] and lines[1].startswith("draft ") and "draft.md" in lines[2]


def test_a_run_that_failed_without_tokens_cost_nothing(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_llm.answers.append(Answer(status=400, text="[/no] such model"))
    assert execute(tenant, run, FIRST) == "failed"
    assert shown(tenant, run)["cost"]["total_llm_cost"] == 0.0
    text = printed(tenant, run, capsys)
    assert "Cost: USD 0.000000 (0 tokens in, 0 out)" in text
    # No part of a message is taken for markup.
    assert "[/no] such model" in text
    assert "; failed " in text


# -- why it is waiting -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_worker")
def test_a_run_waits_for_a_worker(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = waiting(tenant, run)
    assert found is not None
    assert (found["reason"], found["step"], found["worker_seen_at"]) == ("no worker", FIRST, None)
    worker_seen()
    found = shown(tenant, run)["waiting"]
    assert found["reason"] == "worker"
    seen_at = datetime.fromisoformat(found["worker_seen_at"])
    assert abs(timezone.now() - seen_at) < timedelta(minutes=1)
    assert "Why it is waiting: waiting for a worker; one was last seen " in printed(tenant, run, capsys)


def test_a_worker_that_cannot_be_read_is_not_called_missing(tenant: Tenant, run: Run, settings: Settings) -> None:
    settings.CACHES = {**settings.CACHES, "default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1"}}
    workers_seen._client.cache_clear()
    try:
        worker_seen()
        assert seconds_since_worker() is None
        found = waiting(tenant, run)
        assert found is not None
        assert (found["reason"], found["worker_seen_at"]) == ("worker", None)
    finally:
        workers_seen._client.cache_clear()


@pytest.mark.usefixtures("no_worker")
def test_the_age_of_a_worker_is_told_by_the_servers_clock() -> None:
    assert seconds_since_worker() == KEPT_S
    worker_seen()
    client = redis.Redis.from_url(caches["default"]._servers[0])  # type: ignore[attr-defined]
    client.pexpire(workers_seen._key(), (KEPT_S - 90) * 1000)
    found = seconds_since_worker()
    assert found is not None and 90 <= found < 100


def test_a_run_waits_for_its_retry(
    tenant: Tenant, run: Run, fake_llm: FakeLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_llm.answers.append(Answer(status=503, text="busy", headers={"Retry-After": "3600"}))
    assert execute(tenant, run, FIRST) == "retried"
    found = waiting(tenant, run)
    assert found is not None
    assert (found["reason"], found["step"]) == ("retry", FIRST)
    assert "503" in str(found["error"])
    until = datetime.fromisoformat(str(found["until"]))
    assert timedelta(minutes=50) < until - timezone.now() < timedelta(minutes=70)
    assert f"Why it is waiting: retry at {timezone.localtime(until):%H:%M:%S %Z} (" in printed(
        tenant, run, capsys
    ).replace(f"{timezone.localtime(until):%Y-%m-%d} ", "")
    change_step(tenant, run, FIRST, not_before=timezone.now() - timedelta(seconds=1))
    found = waiting(tenant, run)
    assert found is not None and found["reason"] in ("worker", "no worker")


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        *((PauseCause.PERSON, "paused"), (PauseCause.HOLD, "hold"), (PauseCause.REVIEW, "review")),
        *((PauseCause.BUDGET, "budget"), (None, "paused")),
    ],
)
def test_a_paused_run_says_who_paused_it(tenant: Tenant, run: Run, cause: str | None, reason: str) -> None:
    change_run(tenant, run, status=RunStatus.PAUSED, pause_cause=cause, paused_by="operator:ann", paused_at=Now())
    found = waiting(tenant, run)
    assert found is not None
    assert (found["reason"], found["by"], found["step"]) == (reason, "operator:ann", FIRST)
    assert found["since"] is not None


def test_a_step_that_a_worker_executes_does_not_wait_unless_the_worker_is_lost(tenant: Tenant, run: Run) -> None:
    hour = timedelta(hours=1)
    change_run(tenant, run, status=RunStatus.RUNNING)
    change_step(tenant, run, FIRST, status="running", lease_expires_at=Now() + hour)
    assert waiting(tenant, run) is None
    change_step(tenant, run, FIRST, lease_expires_at=Now() - hour)
    found = waiting(tenant, run)
    assert found is not None and (found["reason"], found["step"]) == ("lost worker", FIRST)


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED])
def test_a_run_that_has_ended_does_not_wait(tenant: Tenant, run: Run, status: str) -> None:
    change_run(tenant, run, status=status)
    assert waiting(tenant, run) is None


def test_each_reading_is_recorded_once(tenant: Tenant, run: Run) -> None:
    shown(tenant, run)
    with tenant_context(tenant) as alias:
        assert AuditLog.objects.using(alias).filter(action="run.read").count() == 1
