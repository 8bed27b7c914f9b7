"""End a call from another thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Abort:
    """Passed to `complete`, so that another thread can end the call.

    `abort()` returns immediately, and the call raises `CallAborted` wherever it is: resolving a name, connecting,
    waiting for headers or reading. A reply that had already arrived in full is returned, and an error that the provider
    had already reported is raised. An object that is used for several calls ends all of them, even one that begins
    after `abort()`.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal's handler may abort in the thread that is just beginning a call.
        self._lock = threading.RLock()
        self._interrupts: list[Callable[[], None]] = []
        self._aborted = False

    @property
    def aborted(self) -> bool:
        return self._aborted

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            interrupts = tuple(self._interrupts)
        for interrupt in interrupts:
            interrupt()

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Run `interrupt`, which must not block, if the call is aborted in the block, or at once if it already was."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            if self._aborted:
                interrupt()
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)
