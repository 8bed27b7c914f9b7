"""Limits of providers and models, across all workers: concurrent calls, requests and tokens per minute."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import pytest
from django.test import override_settings

from llm.models import LLMModel, LLMProvider
from runs.turns import Outcome, enqueue, finish, limits, renew, snapshot, take, why
from runs.turns.store import ask
from tenants.models import Tenant
from tests.runs.turns.driving import (
    OK,
    OTHER_ROUTE,
    ROUTE,
    Clock,
    Limits,
    begin_anew,
    enqueued,
    finish_all,
    take_all,
    taken,
    waiting,
)
from tests.support.forked import forked

CALLS = 7
STEPS = 120


def test_a_models_calls_at_a_time(limit: Limits) -> None:
    limit["model:openai/small:calls"] = 2
    enqueued("a", 5)
    turns = take_all()
    assert len(turns) == 2
    finish(turns[0], OK)
    assert len(take_all()) == 1


def test_a_providers_calls_at_a_time_are_those_of_all_its_models(limit: Limits) -> None:
    limit["provider:openai:calls"] = 3
    enqueued("a", 2)
    enqueued("b", 2, OTHER_ROUTE)
    enqueued("a", 2, "claude/haiku")
    assert len(take_all()) == 3 + 2


def test_requests_per_minute(limit: Limits, clock: Clock) -> None:
    limit["provider:openai:requests"] = 3
    enqueued("a", 8)
    finish_all(take_all())
    clock.advance(30)
    assert take_all() == []
    # A counted second leaves the window when all of it is a minute old.
    clock.advance(30.999)
    assert take_all() == []
    clock.advance(0.001)
    assert len(take_all()) == 3


def test_requests_per_minute_are_counted_in_a_sliding_window(limit: Limits, clock: Clock) -> None:
    limit["model:openai/small:requests"] = 2
    enqueued("a", 8)
    finish(taken(), OK)
    clock.advance(40)
    finish(taken(), OK)
    assert take_all() == []
    clock.advance(21)
    assert len(take_all()) == 1


def test_no_call_starts_while_the_last_minutes_tokens_reach_the_limit(limit: Limits, clock: Clock) -> None:
    limit["provider:openai:tokens"] = 1000
    enqueued("a", 8)
    finish(taken(), Outcome("ok", tokens=600))
    clock.advance(10)
    finish(taken(), Outcome("failed", tokens=400))
    assert take_all() == []
    clock.advance(51)
    finish(taken(), Outcome("ok", tokens=599))
    finish(taken(), Outcome("ok", tokens=1))
    assert take_all() == []


def test_what_waits_for_time_is_told_how_long_and_only_once(limit: Limits, clock: Clock) -> None:
    limit["provider:openai:requests"] = 1
    steps = enqueued("a", 4)
    turn = taken()
    first = take()
    assert (first.turn, first.retry_in_s, first.next) == (None, 61.0, steps[1])
    assert take().retry_in_s is None
    finish(turn, OK)
    clock.advance(61)
    # The timer has ended, so the next one is set.
    second = take()
    assert second.turn is not None and (second.retry_in_s, second.next) == (61.0, steps[2])


def test_a_timer_gives_way_to_an_earlier_one(limit: Limits, clock: Clock) -> None:
    limit["provider:openai:requests"] = 1
    enqueued("b", 1, "claude/haiku")
    finish(taken(), Outcome("rate_limited", retry_after_s=1000))
    enqueued("b", 1, "claude/haiku")
    assert take().retry_in_s == 1000.0
    enqueued("a", 2)
    assert take().retry_in_s == 61.0
    clock.advance(61)
    # That timer is used up; the route that is blocked longer gets a timer again.
    assert take().retry_in_s == 939.0


def test_why_names_the_limit(limit: Limits, clock: Clock) -> None:
    limit.update({"provider:a:calls": 1, "model:b/m:calls": 1, "provider:c:requests": 1, "model:d/m:tokens": 10})
    limit["tenant:one"] = 5
    steps = {}
    for provider in "abcde":
        enqueued("one", 1, f"{provider}/m")
    turns = take_all()
    assert len(turns) == 5
    for provider in "abcde":
        [steps[provider]] = enqueued("one", 1, f"{provider}/m")
    kinds = {provider: _kind(step.tenant_id, step.run_id) for provider, step in steps.items()}
    assert kinds == {
        "a": ("provider_limit", None),
        "b": ("model_limit", None),
        "c": ("requests_per_minute", _time(clock, 61)),
        "d": ("tenant_limit", None),
        "e": ("tenant_limit", None),
    }
    finish_all(turns, Outcome("ok", tokens=10))
    kinds = {provider: _kind(step.tenant_id, step.run_id) for provider, step in steps.items()}
    assert kinds == {
        "a": ("turn", None),
        "b": ("turn", None),
        "c": ("requests_per_minute", _time(clock, 61)),
        "d": ("tokens_per_minute", _time(clock, 61)),
        "e": ("turn", None),
    }


def _kind(tenant_id: str, run_id: str) -> tuple[str, datetime | None]:
    reason = why(tenant_id, run_id, "draft")
    assert reason is not None
    return reason.kind, reason.until


def _time(clock: Clock, seconds: float) -> datetime:
    return datetime.fromtimestamp(clock.now_ms / 1000 + seconds, UTC)


def test_a_snapshot_shows_routes_and_tenants(limit: Limits) -> None:
    limit.update({"provider:openai:calls": 3, "model:openai/small:calls": 2, "tenant:a": 9})
    enqueued("a", 4)
    enqueued("b", 1, OTHER_ROUTE)
    enqueued("b", 1)
    assert len(take_all()) == 3
    seen = snapshot()
    assert seen is not None
    routes = {
        one.route: (one.waiting, one.in_flight, one.limit, one.provider_in_flight, one.provider_limit, one.breaker)
        for one in seen.routes
        if one.in_flight
    }
    assert routes == {ROUTE: (3, 2, 2, 3, 3, "closed"), OTHER_ROUTE: (0, 1, None, 3, 3, "closed")}
    assert {one.tenant_id: (one.waiting, one.in_flight, one.limit) for one in seen.tenants} == {
        "a": (2, 2, 9),
        "b": (1, 1, 48),
    }


# -- limits of the control database --------------------------------------------------------------------------------


@pytest.fixture
def rows() -> Iterator[tuple[LLMProvider, LLMModel]]:
    provider = LLMProvider.objects.create(pk="turns-test", display_name="x")
    model = LLMModel.objects.create(provider=provider, model_name="org/m", model_class="pro")
    yield provider, model
    model.delete()
    provider.delete()


def test_limits_are_the_columns(rows: tuple[LLMProvider, LLMModel], tenant: Tenant) -> None:
    provider, model = rows
    columns = ("max_concurrent_calls", "requests_per_minute", "tokens_per_minute")
    LLMProvider.objects.filter(pk=provider.pk).update(**dict(zip(columns, (1, 2, 3), strict=True)))
    LLMModel.objects.filter(pk=model.pk).update(**dict(zip(columns, (4, None, 0), strict=True)))
    Tenant.objects.filter(pk=tenant.pk).update(max_concurrent_steps=5)
    read = dict(limits._read())
    found = {name: limit for name, limit in read.items() if "turns-test" in name or tenant.pk in name}
    assert read["tenants"] == 48
    assert found == {
        "provider:turns-test:calls": 1,
        "provider:turns-test:requests": 2,
        "provider:turns-test:tokens": 3,
        "model:turns-test/org/m:calls": 4,
        # With 0, by plain SQL, nothing would ever start.
        "model:turns-test/org/m:tokens": 1,
        f"tenant:{tenant.pk}": 5,
    }


def test_a_changed_limit_holds_after_a_few_seconds(
    rows: tuple[LLMProvider, LLMModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, _model = rows
    LLMProvider.objects.filter(pk=provider.pk).update(max_concurrent_calls=1)
    enqueued("a", 5, "turns-test/org/m")
    assert len(take_all()) == 1
    LLMProvider.objects.filter(pk=provider.pk).update(max_concurrent_calls=3)
    assert take_all() == []
    monkeypatch.setattr(limits._Published, "read_after", 0.0)
    assert len(take_all()) == 2
    LLMProvider.objects.filter(pk=provider.pk).update(max_concurrent_calls=None)
    monkeypatch.setattr(limits._Published, "read_after", 0.0)
    assert len(take_all()) == 2


def test_thousands_of_limits_are_handed_over(limit: Limits) -> None:
    limit.update({f"tenant:t{number}": 2 for number in range(9000)})
    enqueued("t8999", 3)
    assert len(take_all()) == 2


# -- several workers -----------------------------------------------------------------------------------------------


def work(connection: Connection, queue: str, threads: int) -> None:
    """Execute steps in several threads until none is waiting; send their number and the most seen in flight.

    The first ones last until as many are in flight as the limit allows, or none is waiting.
    """
    done: list[int] = []
    reached = threading.Event()

    def in_flight() -> int:
        while True:
            route = ask("snapshot", routes=[])["routes"][ROUTE]
            if route["in_flight"] >= CALLS or not route["waiting"]:
                reached.set()
            if reached.is_set():
                return int(route["in_flight"])

    def execute() -> None:
        while True:
            found = take()
            if found.turn is None:
                if found.empty:
                    return
                continue
            renew([found.turn])
            done.append(in_flight())
            finish(found.turn, OK)

    with override_settings(CELERY_TASK_DEFAULT_QUEUE=queue), pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_read", lambda: iter({"tenants": 48, "model:openai/small:calls": CALLS}.items()))
        begin_anew()
        workers = [threading.Thread(target=execute) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    # One that begins late finds nothing left to do.
    connection.send((len(done), max(done, default=0)))


def test_several_processes_and_threads_never_exceed_a_limit_together(limit: Limits, own_queue: str) -> None:
    for number in range(STEPS):
        enqueue(waiting(f"tenant-{number % 5}"))
    with ExitStack() as stack:
        heard = [stack.enter_context(forked(work, own_queue, 6))[1] for _ in range(3)]
        results = [connection.recv() for connection in heard]
    assert sum(done for done, _most in results) == STEPS
    assert max(most for _done, most in results) == CALLS
    assert take().empty
