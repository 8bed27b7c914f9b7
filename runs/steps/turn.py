"""Take the turn of the step that a worker executes next, which may not be the one that its message names."""

from __future__ import annotations

from uuid import UUID

from llm.errors import CallAborted, LLMError
from llm.types import TokenUsage
from runs.messages.sending import send_wake_up
from runs.turns import Outcome, Turn, Waiting, finish, take

# No call was made, or its failure was not the provider's.
NO_CALL = Outcome("none")


def take_turn(own: Waiting) -> Turn | None:
    """Return the turn to execute now; None if nothing may start.

    `own` is the step that the message names. Sends a message if more steps may start than there are messages, or a
    delayed one if a step may start later, once a limit allows it.
    """
    taken = take(own=own)
    if taken.retry_in_s is not None:
        _send(taken.next or own, taken.retry_in_s)
    return taken.turn


def end_turn(turn: Turn, outcome: Outcome) -> None:
    """End the turn; if another step may start now or after a delay that limits require, wake a worker for it."""
    freed = finish(turn, outcome)
    if freed.next is not None and (freed.startable or freed.retry_in_s is not None):
        _send(freed.next, 0.0 if freed.startable else freed.retry_in_s or 0.0)


def outcome_of_reply(usage: TokenUsage) -> Outcome:
    return Outcome("ok", tokens=_tokens(usage))


def outcome_of_error(error: LLMError) -> Outcome:
    """Return what a failed call says about its provider."""
    tokens = _tokens(error.usage)
    if error.permanent or isinstance(error, CallAborted):
        return Outcome("none", tokens=tokens)
    if error.retry_after_s is not None:
        return Outcome("rate_limited", tokens=tokens, retry_after_s=error.retry_after_s)
    return Outcome("failed", tokens=tokens)


def _tokens(usage: TokenUsage | None) -> int:
    return usage.input_tokens + usage.output_tokens if usage else 0


def _send(waiting: Waiting, delay_s: float) -> None:
    send_wake_up(
        waiting.tenant_id, UUID(waiting.run_id), waiting.step, route=waiting.route, delay_s=delay_s if delay_s else None
    )
