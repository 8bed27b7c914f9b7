"""No step is lost with Valkey or its content; without Valkey, each process starts only a few steps at a time."""

from __future__ import annotations

import logging
import multiprocessing
import random
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import DatabaseError
from django.test import override_settings
from pytest_django import Settings

from config.stack.process import wait_until
from runs.turns import Outcome, Turn, Waiting, enqueue, finish, renew, snapshot, store, take, why
from runs.turns import limits as turn_limits
from runs.turns.process import LOCAL_TURNS, process
from runs.turns.store import delete_keys, prefix
from tests.runs.turns.driving import (
    NONE,
    OK,
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

LEASE_S = 2.0
NOTHING_LISTENS = "redis://127.0.0.1:9/1"


def flush() -> None:
    """Delete all keys of turns, as FLUSHALL or a restart would.

    Other keys stay, because the session's broker uses the same server.
    """
    delete_keys("*")


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    made = Server(settings)
    yield made
    made.return_()


class Server:
    """The address of Valkey, which can be taken away and given back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._caches = settings.CACHES

    def vanish(self) -> None:
        self._settings.CACHES = {"default": {**self._caches["default"], "LOCATION": NOTHING_LISTENS}}

    def return_(self) -> None:
        self._settings.CACHES = self._caches
        self.end_pause()

    def end_pause(self) -> None:
        """Allow the server to be asked again immediately, although it did not answer."""
        store._Health.ask_after = 0.0


# -- lost content --------------------------------------------------------------------------------------------------


def test_after_a_flush_the_messages_own_step_is_taken(limit: Limits) -> None:
    [step] = enqueued("a")
    flush()
    assert take().empty
    found = take(own=step)
    assert found.turn is not None and found.turn.waiting == step
    assert take().empty


def test_a_step_that_its_sender_did_not_enqueue_keeps_the_limits_too(limit: Limits) -> None:
    limit["provider:openai:calls"] = 1
    first, second = waiting("a"), waiting("a")
    turn = take(own=first).turn
    assert turn is not None
    refused = take(own=second)
    assert (refused.turn, refused.empty) == (None, False)
    freed = finish(turn, OK)
    assert (freed.startable, freed.next) == (True, second)
    assert taken().waiting == second


def test_while_others_wait_the_messages_own_step_has_no_precedence(limit: Limits) -> None:
    [step] = enqueued("a")
    found = take(own=waiting("b"))
    assert found.turn is not None and found.turn.waiting == step
    assert take().empty


def test_turns_in_flight_are_known_again_after_the_next_renewal(limit: Limits) -> None:
    limit["provider:openai:calls"] = 3
    enqueued("a", 5)
    turns = take_all()
    flush()
    renew(turns)
    enqueued("a", 5)
    assert take().turn is None
    finish_all(turns)
    assert len(take_all()) == 3


def test_a_finished_turn_is_never_renewed(limit: Limits) -> None:
    limit["provider:openai:calls"] = 1
    enqueued("a", 2)
    turn = taken()
    finish(turn, OK)
    renew([turn])
    assert len(take_all()) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_flush_at_any_moment_loses_nothing_once_steps_are_enqueued_again(
    seed: int, limit: Limits, clock: Clock
) -> None:
    limit.update({"provider:openai:calls": 3, "provider:openai:requests": 50})
    dice = random.Random(seed)
    open_steps = {waiting(dice.choice("abc")) for _ in range(40)}
    turns: list[Turn] = []
    flushes = 0
    while open_steps:
        # The sweep.
        for step in open_steps - {turn.waiting for turn in turns}:
            enqueue(step)
        for _ in range(dice.randrange(1, 12)):
            if dice.random() < 0.1:
                flush()
                flushes += 1
            elif turns and dice.random() < 0.5:
                turn = turns.pop(dice.randrange(len(turns)))
                finish(turn, OK)
                open_steps.discard(turn.waiting)
            elif (found := take().turn) is not None:
                turns.append(found)
            renew(turns)
            assert len(turns) <= 3
        clock.advance(dice.uniform(0, 30))
    assert flushes > 3


@pytest.mark.parametrize(
    "lost", ["inflight", "routes", "limits", "served", "sequence", "tenant:*", "route:*", "provider:*"]
)
def test_any_one_key_may_be_lost_alone(lost: str, limit: Limits) -> None:
    """This happens on a server that is short of memory and evicts keys."""
    limit.update({"provider:openai:calls": 4, "tenant:a": 2})
    steps = {*enqueued("a", 20), *enqueued("b", 3)}
    turns = [taken(), taken()]
    delete_keys(lost)
    for step in steps - {turn.waiting for turn in turns}:
        enqueue(step)
    while turns:
        finish(turns.pop(), OK)
        turns += take_all()
        assert len(turns) <= 4
    assert take().empty


def test_the_limits_are_handed_over_again(limit: Limits) -> None:
    limit["provider:openai:calls"] = 2
    enqueued("a", 5)
    taken()
    flush()
    enqueued("a", 5)
    assert len(take_all()) == 2


def test_without_limits_nothing_starts_but_a_few(limit: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Iterator[tuple[str, int]]:
        raise DatabaseError

    monkeypatch.setattr(turn_limits, "_read", fail)
    turns = [take(own=waiting("a")).turn for _ in range(LOCAL_TURNS + 3)]
    assert [turn is not None for turn in turns] == [True] * LOCAL_TURNS + [False] * 3


# -- a server that cannot be reached -------------------------------------------------------------------------------


def test_without_the_server_a_process_does_a_few_steps_at_a_time(limit: Limits, server: Server) -> None:
    server.vanish()
    steps = [waiting("a") for _ in range(LOCAL_TURNS + 2)]
    for step in steps:
        enqueue(step)
    found = [take(own=step).turn for step in steps]
    turns = [turn for turn in found if turn is not None]
    assert [turn.waiting for turn in turns] == steps[:LOCAL_TURNS]
    assert why("a", steps[-1].run_id, "draft") is None and snapshot() is None
    renew(turns)
    # Those that were refused are taken one by one.
    freed = finish(turns[0], OK)
    assert (freed.startable, freed.next) == (True, steps[LOCAL_TURNS])
    again = take(own=freed.next)
    assert again.turn is not None
    assert finish(again.turn, OK).next == steps[LOCAL_TURNS + 1]


def test_turns_that_the_server_gave_count_when_it_is_gone(limit: Limits, server: Server) -> None:
    enqueued("a", 10)
    turns = take_all()
    server.vanish()
    step = waiting("a")
    assert take(own=step).turn is None
    finish_all(turns[:-LOCAL_TURNS])
    assert take(own=step).turn is None
    finish(turns[-1], OK)
    assert take(own=step).turn is not None


def test_when_it_returns_the_refused_steps_go_into_their_queues(limit: Limits, server: Server) -> None:
    limit["provider:openai:calls"] = LOCAL_TURNS + 1
    server.vanish()
    steps = [waiting("a") for _ in range(LOCAL_TURNS + 3)]
    turns = [turn for step in steps if (turn := take(own=step).turn)]
    server.return_()
    # The server knows turns that began without it from the next renewal on.
    renew(turns)
    found = take()
    assert found.turn is not None and found.turn.waiting == steps[LOCAL_TURNS]
    assert take().turn is None
    freed = finish(turns[0], OK)
    assert (freed.startable, freed.next) == (True, steps[LOCAL_TURNS + 1])
    assert [turn.waiting for turn in take_all()] == [steps[LOCAL_TURNS + 1]]


def test_its_absence_is_logged_once_a_minute(limit: Limits, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.vanish()
    with caplog.at_level(logging.WARNING, "runs.turns"):
        for _ in range(20):
            enqueue(waiting("a"))
            take(own=waiting("a"))
            renew([Turn(waiting("a"), "token")])
            finish(Turn(waiting("a"), "token"), NONE)
            server.end_pause()
    [record] = [record for record in caplog.records if record.name == "runs.turns.store"]
    assert record.getMessage() == "limits and queues cannot be reached, so only a few steps start"
    assert (record.__dict__["action"], record.__dict__["error"]) == ("turns.unavailable", "ConnectionError")


def test_a_server_that_does_not_answer_is_not_asked_again_at_once(
    limit: Limits, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    server.vanish()
    assert take(own=waiting("a")).turn is not None
    monkeypatch.setattr("runs.turns.store._script", lambda *address: asked.append("asked"))
    for _ in range(50):
        take(own=waiting("a"))
    assert asked == []


def test_a_server_that_refuses_to_write_is_as_good_as_none(limit: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = redis.Redis.from_url(django_settings.CACHES["default"]["LOCATION"])
    enqueued("a", 3)
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", 1)
    try:
        assert take(own=waiting("a")).turn is not None
        enqueue(waiting("a"))
    finally:
        client.config_set("maxmemory", before)


def test_garbage_in_the_keys_stops_nothing(limit: Limits, own_queue: str) -> None:
    client: Any = redis.Redis.from_url(django_settings.CACHES["default"]["LOCATION"])
    for garbage in ("no json", "[]", "null", '["a"]', "[1,2,3]", "\x00\xff"):
        client.zadd(f"{prefix()}inflight", {garbage: 1})
        client.zadd(f"{prefix()}later", {garbage: 1})
        client.zadd(f"{prefix()}tenant:a:waiting:{ROUTE}", {garbage: -1})
    [step] = enqueued("b")
    turns = take_all()
    assert [turn.waiting for turn in turns] == [step]
    finish_all(turns, Outcome("ok"))


# -- an answer that does not come in time ---------------------------------------------------------------------------


@pytest.fixture
def late_answer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the answer to the first request of each kind time out; return a list that collects each request's kind."""
    sent: list[str] = []
    script = store._script

    def late(*address: Any) -> Any:
        def run(keys: list[str], args: list[str]) -> Any:
            answer = script(*address)(keys=keys, args=args)
            sent.append(args[0])
            if sent.count(args[0]) == 1:
                raise redis.exceptions.TimeoutError
            return answer

        return run

    monkeypatch.setattr(store, "_script", late)
    return sent


def test_a_request_that_is_sent_again_is_done_once(limit: Limits, late_answer: list[str]) -> None:
    limit["provider:openai:calls"] = 2
    steps = enqueued("a", 3)
    first = taken()
    assert first.waiting == steps[0]
    assert taken().waiting == steps[1]
    assert take().turn is None
    assert finish(first, OK).next == steps[2]
    assert taken().waiting == steps[2]
    assert len(late_answer) == 2 * len(set(late_answer))


# -- processes -----------------------------------------------------------------------------------------------------


def hold(connection: Connection, queue: str) -> None:
    """Take a turn, report it, and keep it until this process is killed."""
    with override_settings(CELERY_TASK_DEFAULT_QUEUE=queue, RUN_LEASE_S=LEASE_S), pytest.MonkeyPatch.context() as patch:
        patch.setattr(turn_limits, "_read", lambda: iter({"tenants": 1}.items()))
        begin_anew()
        connection.send(take().turn is not None)
        threading.Event().wait()


def test_the_turns_of_a_killed_worker_end_with_its_lease(limit: Limits, own_queue: str) -> None:
    limit["tenants"] = 1
    enqueued("a", 2)
    with forked(hold, own_queue) as (holder, connection):
        assert connection.recv() is True
        assert take().turn is None
        holder.kill()
        holder.join()
        assert wait_until(lambda: take().turn is not None, 60)


def child(connection: Connection) -> None:
    connection.send((process.is_held(Turn(waiting("a"), "held")), take().turn is not None, take().turn is not None))


def test_a_forked_child_has_connections_and_turns_of_its_own(limit: Limits) -> None:
    steps = enqueued("a", 4)
    process.hold(Turn(steps[0], "held"))
    taken()
    heard, said = multiprocessing.Pipe(duplex=False)
    forked_child = multiprocessing.get_context("fork").Process(target=child, args=(said,))
    forked_child.start()
    # Both speak to the server at the same time, each through connections of its own.
    mine = [take().turn]
    assert heard.recv() == (False, True, True)
    forked_child.join()
    assert mine[0] is not None and isinstance(mine[0].waiting, Waiting)
    assert process.is_held(Turn(steps[0], "held"))
