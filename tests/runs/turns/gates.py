"""Hold the calls of the fake provider until the test lets them end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.runs.fake_llm import Answer, FakeLLM


class Gates:
    """Holds calls of the fake provider until the test releases them, the oldest first."""

    def __init__(self, fake: FakeLLM) -> None:
        self._fake = fake
        self._lock = threading.Lock()
        self._held: list[threading.Event] = []
        self._is_open = False
        # The most calls that were held at a time.
        self.most = 0
        # Answers a prompt immediately instead of holding it; None: hold it.
        self.at_once: Callable[[str], Answer | None] = lambda prompt: None
        fake.choose = self._choose

    @property
    def held(self) -> int:
        with self._lock:
            return len(self._held)

    def release_one(self) -> None:
        """Release the oldest call."""
        with self._lock:
            self._held.pop(0).set()

    def open(self) -> None:
        """Release all held calls, and hold no later ones."""
        with self._lock:
            self._is_open = True
            while self._held:
                self._held.pop().set()

    def forget(self) -> None:
        """Release all held calls, whose workers have ended; later calls are held."""
        with self._lock:
            while self._held:
                self._held.pop().set()

    def _choose(self, prompt: str) -> Answer:
        answer, gate = self.at_once(prompt), threading.Event()
        if answer is not None:
            return answer
        with self._lock:
            if self._is_open:
                return Answer()
            self._held.append(gate)
            self.most = max(self.most, len(self._held))
        return Answer(gate=gate)
