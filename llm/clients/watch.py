"""End a call's wait for the network at its deadline, if the next part takes too long, or if the call is aborted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

# Providers close the connection, or end the body, right after the last part of a reply. A provider that does not must
# not hold up the call.
ENDING_S = 2.0

_thread = threading.local()


class Interrupted(Exception):
    """The call is aborted, so it may not begin another wait."""


class Watch:
    """Limits the waits of one call, in that call's thread. Only `interrupt` may be called by other threads."""

    def __init__(self, timeout_s: float, stall_timeout_s: float | None) -> None:
        self._deadline = monotonic() + timeout_s
        self._stall_s = stall_timeout_s
        self._stall_counts = False
        self._lock = threading.RLock()
        self._wake: Callable[[], None] | None = None
        self.interrupted = False
        # Whether any part of the request may have reached the provider.
        self.sent = False
        # Whether the last wait ended because the next part of the reply did not come in time.
        self.stalled = False

    def interrupt(self) -> None:
        with self._lock:
            self.interrupted = True
            if self._wake is not None:
                self._wake()

    def tokens_began(self) -> None:
        """From now on, let each wait for the provider last at most `stall_timeout_s` seconds, if that is set."""
        self._stall_counts = True

    def reply_ended(self) -> None:
        """From now on, wait only briefly for the rest of the body: the reply is complete, or it is an error."""
        self._stall_s = min(ENDING_S, ENDING_S if self._stall_s is None else self._stall_s)
        self._stall_counts = True

    def seconds_left(self, most_s: float | None = None) -> float:
        """Return how long the next wait may take, at most `most_s`; 0 or less if the time is used up."""
        limits = [self._deadline - monotonic()]
        if self._stall_counts and self._stall_s is not None:
            limits.append(self._stall_s)
        if most_s is not None:
            limits.append(most_s)
        return min(limits)

    def timed_out(self) -> None:
        """Note which limit ended a wait: the caller only knows that one did."""
        self.stalled = self._stall_counts and monotonic() < self._deadline

    @contextmanager
    def waiting(self, wake: Callable[[], None], begin: Callable[[], None] | None = None) -> Iterator[None]:
        """Run a block that waits; `wake` ends the wait if the call is aborted. Raises `Interrupted` if it already was.

        `begin` runs first; an abort from then on runs `wake`, but never after the block, so that it cannot hit the next
        user of a kept connection.
        """
        with self._lock:
            if self.interrupted:
                raise Interrupted
            if begin is not None:
                begin()
            self._wake = wake
        try:
            yield
        finally:
            with self._lock:
                self._wake = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make `current()` return this watch in the block's thread, which makes the call."""
        before, _thread.watch = current(), self
        try:
            yield
        finally:
            _thread.watch = before


def current() -> Watch | None:
    """Return the watch of the call that this thread is making; None if it is making no call."""
    watch: Watch | None = getattr(_thread, "watch", None)
    return watch
