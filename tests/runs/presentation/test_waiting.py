"""Why a run is waiting, in words: one phrase for each reason."""

from __future__ import annotations

from typing import Any, cast, get_args

import pytest

from runs.presentation.times import duration, local_time
from runs.presentation.waiting import waiting_text
from runs.types import WaitDocument, WaitReason

pytestmark = pytest.mark.unit

NOW = "2026-11-24T03:02:10+00:00"
CASES: dict[WaitReason, tuple[dict[str, object], str]] = {
    "paused": (
        {"by": "operator:ann", "since": "2026-11-24T03:00:00+00:00"},
        "paused by operator:ann at 2026-11-24 12:00:00 JST",
    ),
    "hold": (
        {"by": "operator:ann", "since": "2026-11-24T03:00:00+00:00"},
        "created on hold by operator:ann at 2026-11-24 12:00:00 JST",
    ),
    "review": (
        {"step": "draft", "since": "2026-11-24T03:00:00+00:00"},
        "waiting for a review before step draft since 2026-11-24 12:00:00 JST",
    ),
    "budget": (
        {"step": "draft", "since": "2026-11-24T03:00:00+00:00", "error": "Reached. Raise it."},
        "paused before step draft at 2026-11-24 12:00:00 JST: Reached. Raise it",
    ),
    "worker": ({"worker_seen_at": "2026-11-24T03:02:07+00:00"}, "waiting for a worker; one was last seen 3 s ago"),
    "no worker": ({}, "waiting for a worker; none has been seen in the last day"),
    "lost worker": ({"step": "draft"}, "the worker of step draft was lost; the step is waiting for another worker"),
    "retry": (
        {"until": "2026-11-24T03:03:10+00:00", "error": "HTTP 503 from openai."},
        "retry at 12:03:10 JST (HTTP 503 from openai)",
    ),
    "turn": ({"position": 4}, "waiting for its turn (3 steps of the tenant ahead of it)"),
    "tenant_limit": ({}, "the tenant has reached its limit on simultaneous steps"),
    "provider_limit": ({"route": "openai/a/b"}, "provider openai has reached its limit on simultaneous calls"),
    "model_limit": ({"route": "openai/a/b"}, "model openai/a/b has reached its limit on simultaneous calls"),
    "requests_per_minute": (
        {"route": "openai/m", "until": "2026-11-24T03:02:30+00:00"},
        "the requests-per-minute limit of openai/m or of its provider is reached (next try: 12:02:30 JST)",
    ),
    "tokens_per_minute": (
        {"route": "openai/m", "until": "2026-11-24T03:02:30+00:00"},
        "the tokens-per-minute limit of openai/m or of its provider is reached (next try: 12:02:30 JST)",
    ),
    "breaker": (
        {"route": "openai/m", "until": "2026-11-24T03:04:00+00:00"},
        "openai/m has failed repeatedly or is rate-limited (next try: 12:04:00 JST)",
    ),
}


def document(**fields: object) -> WaitDocument:
    return cast(WaitDocument, {**dict.fromkeys(WaitDocument.__annotations__), **fields})


@pytest.fixture(autouse=True)
def tokyo(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"


def test_each_reason_has_a_case() -> None:
    assert CASES.keys() == set(get_args(WaitReason))


@pytest.mark.parametrize("reason", CASES)
def test_a_reason_is_one_phrase(reason: WaitReason) -> None:
    values, text = CASES[reason]
    assert waiting_text(document(reason=reason, **values), now=NOW) == text


def test_the_first_in_the_queue_has_none_before_it_and_an_unknown_worker_is_not_invented() -> None:
    first = document(reason="turn", position=2)
    assert waiting_text(first, now=NOW) == "waiting for its turn (1 step of the tenant ahead of it)"
    unknown = document(reason="worker")
    assert waiting_text(unknown, now=NOW) == "waiting for a worker"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (172_800, "2 d")],
)
def test_a_duration_has_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_of_another_day_has_its_date() -> None:
    assert local_time("2026-11-24T14:59:00+00:00", day=NOW) == "23:59:00 JST"
    assert local_time("2026-11-24T15:00:00+00:00", day=NOW) == "2026-11-25 00:00:00 JST"
    assert local_time(None, day=NOW) == ""
