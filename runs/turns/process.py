"""Keep what only this process knows: the turns that it holds, and steps refused while the server is unreachable."""

from __future__ import annotations

import json
import os
import threading
from uuid import uuid4

from runs.turns.types import Turn, Waiting

# While the server is unreachable, a process that holds this many turns takes no more.
LOCAL_TURNS = 4
# How many steps that were refused meanwhile are kept. The others are left to the sweep.
BACKLOG_MAX = 10_000


class Process:
    """The turns and the backlog of this process. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a forked child must."""
        # Held by `renew` while it asks the server, so that no turn is renewed after it was finished.
        self.lock = threading.RLock()
        self._held: set[str] = set()
        # Used as an ordered set: the keys are in order of arrival.
        self._backlog: dict[Waiting, None] = {}

    def hold(self, turn: Turn) -> None:
        with self.lock:
            self._held.add(turn.token)

    def let_go(self, turn: Turn) -> None:
        with self.lock:
            self._held.discard(turn.token)

    def is_held(self, turn: Turn) -> bool:
        with self.lock:
            return turn.token in self._held

    def take_locally(self, own: Waiting | None) -> Turn | None:
        """Return a turn for `own`, or else for the oldest step in the backlog.

        Returns None if there is no step, or if this process holds enough turns; `own` is then kept in the backlog,
        unless that is full.
        """
        with self.lock:
            if own is not None:
                self._keep(own)
            if len(self._held) >= LOCAL_TURNS or not self._backlog:
                return None
            waiting = own if own is not None and own in self._backlog else next(iter(self._backlog))
            del self._backlog[waiting]
            turn = Turn(waiting, _token(waiting))
            self._held.add(turn.token)
            return turn

    def next_locally(self) -> Waiting | None:
        """Remove and return the oldest step in the backlog, to send its message again; None if no step may start."""
        with self.lock:
            if len(self._held) >= LOCAL_TURNS or not self._backlog:
                return None
            waiting = next(iter(self._backlog))
            del self._backlog[waiting]
            return waiting

    def give_up_backlog(self) -> list[Waiting]:
        """Remove and return the backlog, to give to the server once it can be reached again."""
        with self.lock:
            given = list(self._backlog)
            self._backlog.clear()
            return given

    def restore_backlog(self, steps: list[Waiting]) -> None:
        with self.lock:
            for waiting in steps:
                self._keep(waiting)

    def _keep(self, waiting: Waiting) -> None:
        if len(self._backlog) < BACKLOG_MAX:
            self._backlog[waiting] = None


def _token(waiting: Waiting) -> str:
    """Return a token in the script's form, so that `renew` can tell the server about the turn once it is reachable."""
    return json.dumps([uuid4().hex, waiting.tenant_id, waiting.route, waiting.run_id, waiting.step])


process = Process()
os.register_at_fork(after_in_child=process.reset)
