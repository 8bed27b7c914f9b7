"""Which events are shown between two states of a run."""

from __future__ import annotations

from typing import Any, cast

import pytest

from runs.presentation.follow import run_events
from runs.types import CallsDocument, CostDocument, RunDocument, StepDocument, WaitDocument

pytestmark = pytest.mark.unit

AT = "2026-11-24T03:02:10+00:00"
NO_CALLS = CallsDocument(count=0, open=0, settled=0, unknown=0)
COST = CostDocument(
    total_llm_cost=0.5,
    exact_llm_cost="0.5",
    total_input_tokens=10,
    total_output_tokens=5,
    tokens_by_unit={},
    unpriced_tokens={},
    unpriced_steps=0,
    cache_saving=None,
    unknown_calls=0,
    unknown_cost_limit=None,
)


@pytest.fixture(autouse=True)
def utc(settings: Any) -> None:
    settings.TIME_ZONE = "UTC"


def _none(document: type) -> dict[str, object]:
    return dict.fromkeys(document.__annotations__)


def step(name: str = "outline", **columns: Any) -> StepDocument:
    usual = {"status": "pending", "retry_count": 0, "lost_count": 0, "attempt": 1, "version": 1, "is_truncated": False}
    model = {"llm_provider": "openai", "llm_model": "m", "calls": NO_CALLS}
    return cast(StepDocument, {**_none(StepDocument), **usual, **model, "step": name, **columns})


def wait(reason: str, **columns: Any) -> WaitDocument:
    return cast(WaitDocument, {**_none(WaitDocument), "reason": reason, "step": "outline", **columns})


def run(*steps: StepDocument, status: str = "running", **columns: Any) -> RunDocument:
    usual = {"id": "R", "tenant_id": "T", "created_at": "2026-11-24T03:00:00+00:00", "read_at": AT, "cost": COST}
    given = {"is_truncated": False, "artifacts": [], "status": status, "steps": list(steps), **columns}
    return cast(RunDocument, {**_none(RunDocument), **usual, **given})


def events(before: RunDocument | None, now: RunDocument) -> list[str]:
    return list(run_events(before, now))


def test_nothing_new_is_no_event() -> None:
    waiting = run(step(), status="pending", waiting=wait("worker", worker_seen_at=AT))
    later = run(step(), status="pending", waiting=wait("worker", worker_seen_at="2026-11-24T03:02:12+00:00"))
    assert events(waiting, later) == []


def test_what_happened_before_is_told_with_its_own_times() -> None:
    done = step(
        status="completed",
        started_at="2026-11-24T03:00:30+00:00",
        completed_at="2026-11-24T03:01:00+00:00",
        seconds=30.0,
        token_usage={"input": 10, "output": 5},
    )
    assert events(None, run(done, step("draft"))) == [
        "03:00:00 UTC  run R of tenant T was created",
        "03:00:30 UTC  outline: attempt 1 started (openai/m)",
        "03:01:00 UTC  outline: completed after 30.0 s (tokens: 10 in, 5 out)",
    ]


def test_a_failed_attempt_and_the_next_one() -> None:
    failed = step(retry_count=1, attempt=2, error_message="HTTP 503.", started_at=AT)
    waits = wait("retry", until="2026-11-24T03:03:00+00:00", error="HTTP 503.")
    assert events(run(step(status="running", started_at=AT)), run(failed, waiting=waits)) == [
        "03:02:10 UTC  outline: attempt 1 failed: HTTP 503.",
        "03:02:10 UTC  retry at 03:03:00 UTC (HTTP 503)",
    ]
    again = step(status="running", retry_count=1, attempt=2, error_message="HTTP 503.", started_at=AT)
    assert events(run(failed, waiting=waits), run(again)) == ["03:02:10 UTC  outline: attempt 2 started (openai/m)"]


def test_a_takeover_between_two_reads() -> None:
    before = step(status="running", started_at=AT)
    after = step(status="running", lost_count=1, attempt=2, started_at=AT)
    assert events(run(before), run(after)) == [
        "03:02:10 UTC  outline: an attempt was lost with its worker",
        "03:02:10 UTC  outline: attempt 2 started (openai/m)",
    ]


def test_a_step_that_runs_again_and_a_truncated_output() -> None:
    before = step(status="completed", seconds=1.0, completed_at=AT)
    after = step(status="completed", version=2, seconds=2.0, completed_at=AT, started_at=AT, is_truncated=True)
    assert events(run(before), run(after)) == [
        "03:02:10 UTC  outline: will run again from the start",
        "03:02:10 UTC  outline: attempt 1 started (openai/m)",
        "03:02:10 UTC  outline: completed after 2.0 s (tokens: 0 in, 0 out) (truncated)",
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("completed", "03:02:10 UTC  the run was completed; cost: USD 0.500000"),
        ("failed", "03:02:10 UTC  the run failed; cost: USD 0.500000"),
        ("paused", "03:02:10 UTC  the run is paused, so it is no longer followed; cost so far: USD 0.500000"),
    ],
)
def test_the_end_is_the_last_line(status: str, line: str) -> None:
    assert events(run(step()), run(step(), status=status))[-1] == f"{line} (10 tokens in, 5 out)"
