"""Decide whose turn it is, by fair queues, limits and breakers that all workers share through Valkey or Redis.

Messages and turns go together, so that waiting steps occupy no thread and nothing polls:

1. Code that makes a step due calls `enqueue` and sends one message, both after the commit and with the same delay.
2. A worker that receives any message calls `take(own=…)` with the step that the message names. It executes the step of
   the turn that it gets, which may be another one. If it gets no turn, it is done with the message.
3. If `retry_in_s` is not None, the worker sends one message after that time (0: immediately), which names `next`, or
   `own` if that is None.
4. While the call runs, the heartbeat calls `renew` three times within a lease. A turn that is not renewed expires.
5. Whatever happened, the worker calls `finish` once, last of all, and sends one message if the answer asks for one.

The rows decide what a step may do: a turn is only a place in the queue. If anything is lost here, the sweep makes up
for it by enqueuing the steps that have no worker. If the server cannot be reached, `take` gives out a few turns per
process.
"""

from runs.turns.client import enqueue, finish, renew, take
from runs.turns.erase import count, erase
from runs.turns.types import Freed, Outcome, Taken, Turn, Waiting, WaitReason
from runs.turns.watch import snapshot, why

__all__ = [
    "Freed",
    "Outcome",
    "Taken",
    "Turn",
    "WaitReason",
    "Waiting",
    "count",
    "enqueue",
    "erase",
    "finish",
    "renew",
    "snapshot",
    "take",
    "why",
]
