"""Enqueue steps; take, renew and finish turns. None of these functions raises if the server cannot be reached."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from runs.turns import limits
from runs.turns.process import process
from runs.turns.store import Unavailable, ask
from runs.turns.types import Freed, Outcome, Taken, Turn, Waiting


def enqueue(waiting: Waiting, *, delay_s: float | None = None) -> None:
    """Put a step into its tenant's queue for its route, after `delay_s` seconds if given.

    A step that is in that queue already keeps its place.
    If the server cannot be reached, nothing happens: the step's message, or else the sweep, leads a worker to the step.
    """
    with suppress(Unavailable):
        ask("enqueue", steps=[_fields(waiting)], delay_ms=int(delay_s * 1000) if delay_s else None)


def take(*, own: Waiting | None = None) -> Taken:
    """Take a turn for the fairest choice among the steps that may start now, if there is one.

    `own` is the step that the worker's message names. If no step is waiting, `own` is put into its queue first, since
    the queues may have been lost, or the sender may not know them. The limits apply to it too. If the server cannot be
    reached, each process gives out a few turns itself, and keeps other steps in its backlog.
    """
    try:
        limits.refresh()
        _return_backlog()
        reply = _take(own)
        if reply.get("lacks_limits"):
            limits.publish()
            reply = _take(own)
        if reply.get("lacks_limits"):
            raise Unavailable
    except Unavailable:
        return Taken(process.take_locally(own))
    return _taken(reply)


def renew(turns: Collection[Turn]) -> None:
    """Keep the turns for another lease. A turn that the server has lost is recorded there again."""
    with process.lock:
        held = [turn.token for turn in turns if process.is_held(turn)]
        if held:
            with suppress(Unavailable):
                ask("renew", held=held)


def finish(turn: Turn, outcome: Outcome) -> Freed:
    """End a turn, note how its call ended, and return which step may start now, or when one may."""
    process.let_go(turn)
    try:
        _return_backlog()
        reply = ask("finish", token=turn.token, **_facts(outcome))
    except Unavailable:
        waiting = process.next_locally()
        return Freed(startable=waiting is not None, next=waiting)
    return Freed(bool(reply.get("startable")), _seconds(reply), _waiting(reply.get("next")))


def _take(own: Waiting | None) -> dict[str, Any]:
    return ask("take", own=_fields(own) if own else None)


def _return_backlog() -> None:
    """Give the server the steps that only this process knows; their messages are gone."""
    steps = process.give_up_backlog()
    if not steps:
        return
    try:
        ask("enqueue", steps=[_fields(waiting) for waiting in steps], is_dropped=True)
    except Unavailable:
        process.restore_backlog(steps)
        raise


def _facts(outcome: Outcome) -> dict[str, object]:
    is_fault = outcome.kind == "rate_limited" and outcome.retry_after_s is None
    return {
        "outcome": "failed" if is_fault else outcome.kind,
        "tokens": outcome.tokens,
        "retry_after_ms": None if outcome.retry_after_s is None else max(int(outcome.retry_after_s * 1000), 1),
    }


def _taken(reply: dict[str, Any]) -> Taken:
    found = reply.get("turn")
    turn = Turn(_known(found["step"]), found["token"]) if found else None
    if turn is not None:
        process.hold(turn)
    retry_in_s = 0.0 if reply.get("startable") else _seconds(reply)
    return Taken(turn, retry_in_s, bool(reply.get("empty")), _waiting(reply.get("next")))


def _seconds(reply: dict[str, Any]) -> float | None:
    return reply["retry_ms"] / 1000 if "retry_ms" in reply else None


def _fields(waiting: Waiting) -> list[str]:
    return [waiting.tenant_id, waiting.run_id, waiting.step, waiting.route]


def _waiting(fields: list[str] | None) -> Waiting | None:
    return _known(fields) if fields else None


def _known(fields: list[str]) -> Waiting:
    tenant_id, run_id, step, route = fields
    return Waiting(tenant_id, run_id, step, route)
