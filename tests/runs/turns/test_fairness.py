"""Which of the steps that may start is next: the oldest one of the tenant with the fewest steps in flight.

Among equals, it is the tenant that was served least recently.
"""

from __future__ import annotations

from collections import Counter

from runs.turns import Outcome, Waiting, enqueue, finish, take, why
from tests.runs.turns.driving import (
    OK,
    OTHER_ROUTE,
    ROUTE,
    Clock,
    Limits,
    enqueued,
    take_all,
    taken,
    tenants_of,
    waiting,
)


def test_a_tenant_need_not_wait_for_anothers_backlog(limit: Limits) -> None:
    limit["provider:openai:calls"] = 4
    enqueued("a", 500)
    busy = [taken() for _ in range(4)]
    [step] = enqueued("b")
    finish(busy[0], OK)
    assert taken().waiting == step


def test_tenants_share_what_there_is(limit: Limits) -> None:
    limit["provider:openai:calls"] = 12
    for tenant, number in (("a", 500), ("b", 50), ("c", 2)):
        enqueued(tenant, number)
    turns = take_all()
    assert Counter(tenants_of(turns)) == {"a": 5, "b": 5, "c": 2}


def test_among_equals_the_one_served_least_recently_is_next(limit: Limits) -> None:
    for tenant in ("a", "b", "c"):
        enqueued(tenant, 5)
    served = []
    for _ in range(9):
        turn = taken()
        served.append(turn.waiting.tenant_id)
        finish(turn, OK)
    assert served == [*"abc"] * 3


def test_a_tenants_steps_start_in_the_order_of_their_arrival(limit: Limits) -> None:
    steps = [enqueued("a", 1, route)[0] for route in (ROUTE, OTHER_ROUTE, OTHER_ROUTE, ROUTE, ROUTE)]
    assert [turn.waiting for turn in take_all()] == steps


def test_a_route_without_room_does_not_block_the_tenants_other_routes(limit: Limits) -> None:
    limit["model:openai/small:calls"] = 1
    blocked, free = enqueued("a", 3), enqueued("a", 2, OTHER_ROUTE)
    assert [turn.waiting for turn in take_all()] == [blocked[0], *free]


def test_a_tenants_limit_holds_whatever_is_free(limit: Limits) -> None:
    limit.update({"tenant:a": 2, "tenants": 3})
    enqueued("a", 10)
    enqueued("b", 10)
    first = take_all()
    assert Counter(tenants_of(first)) == {"a": 2, "b": 3}
    finish(next(turn for turn in first if turn.waiting.tenant_id == "a"), OK)
    assert tenants_of(take_all()) == ["a"]


def test_many_tenants_at_their_limit_do_not_hide_one_below_it(limit: Limits) -> None:
    for number in range(130):
        limit[f"tenant:t{number}"] = 1
        enqueued(f"t{number}", 2)
    assert len(take_all()) == 130
    limit_free = enqueued("unlimited", 3)
    busy = [taken(), taken()]
    assert [turn.waiting for turn in busy] == limit_free[:2]
    assert taken().waiting == limit_free[2]


def test_a_step_waits_once_however_often_it_is_enqueued(limit: Limits) -> None:
    step = waiting("a")
    for _ in range(3):
        enqueue(step)
    assert [turn.waiting for turn in take_all()] == [step]
    assert take().empty


def test_names_with_any_character_come_back_as_they_were(limit: Limits) -> None:
    step = Waiting("a", "no uuid", "stép: 1", 'local/org/モデル:7b "q" \\ {x}')
    enqueue(step)
    assert taken().waiting == step


def test_a_delayed_step_waits_until_it_is_due(limit: Limits, clock: Clock) -> None:
    later, now = waiting("a"), waiting("a")
    enqueue(later, delay_s=30)
    enqueue(now)
    assert [turn.waiting for turn in take_all()] == [now]
    clock.advance(29.9)
    assert take().empty
    clock.advance(0.1)
    assert taken().waiting == later
    assert take().empty


def test_enqueued_at_once_a_delayed_step_is_not_delayed_any_more(limit: Limits, clock: Clock) -> None:
    step = waiting("a")
    enqueue(step, delay_s=30)
    enqueue(step)
    assert taken().waiting == step
    clock.advance(60)
    assert take().empty


def test_why_tells_the_position_in_the_tenants_queues(limit: Limits) -> None:
    enqueued("b", 7)
    steps = [enqueued("a", 1, route)[0] for route in (ROUTE, OTHER_ROUTE, ROUTE)]
    reasons = [why(step.tenant_id, step.run_id, step.step) for step in steps]
    assert [(reason.kind, reason.route, reason.position) for reason in reasons if reason] == [
        ("turn", ROUTE, 1),
        ("turn", OTHER_ROUTE, 2),
        ("turn", ROUTE, 3),
    ]


def test_why_is_silent_about_steps_that_do_not_wait(limit: Limits) -> None:
    [step] = enqueued("a")
    turn = taken()
    assert why(step.tenant_id, step.run_id, step.step) is None
    finish(turn, Outcome("ok"))
    assert why("nobody", "no run", "draft") is None
