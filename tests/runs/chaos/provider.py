"""A fake of the paid provider, which fails now and then; its ledger is the truth about what was billed."""

from __future__ import annotations

import random
import threading
import time
from typing import cast

from tests.runs.fake_llm import Answer, Billed, FakeLLM, Fault

# The first line of a prompt names run and step, so that each call in the ledger, and each output, shows which step it
# belongs to.
CLOSING = "]"
# Faults after which no one can know what a call cost, because nothing that the provider sent says so.
UNKNOWABLE = frozenset({"hang", "stall", "cut", "malformed", "error"})
# The delay before an answer without a fault.
THINKING_S = (0.0, 0.6)
# What goes wrong: an HTTP status, or a fault of an answer.
FAULTS = ("429", "retry later", "500", "503", "length", "slow", *sorted(UNKNOWABLE))
# How long a provider that hangs keeps the connection; longer than any of our timeouts.
HANGS_S = 6.0


def mark(keyword: str, step: str) -> str:
    return f"[{keyword}/{step}{CLOSING}"


def mark_of(text: str) -> str:
    return text.partition(CLOSING)[0] + CLOSING


class Moody:
    """Chooses the provider's answers: until `calm_down`, some have a fault and the others take a moment."""

    def __init__(self, fake: FakeLLM, *, faults: float, seed: str) -> None:
        self._fake = fake
        self._chance = random.Random(f"provider {seed}")
        self._faults = faults
        self._is_calm = False
        self._gates: set[threading.Event] = set()
        self._lock = threading.Lock()
        fake.choose = self.answer

    @property
    def ledger(self) -> list[Billed]:
        return self._fake.ledger

    def is_settled(self) -> bool:
        """Return whether each request that arrived is in the ledger."""
        return len(self._fake.ledger) == len(self._fake.prompts)

    def calm_down(self) -> None:
        """From now on, answer everything correctly and immediately; release the calls that hang."""
        with self._lock:
            self._is_calm = True
            for gate in self._gates:
                gate.set()

    def answer(self, prompt: str) -> Answer:
        text = f"{mark_of(prompt)} answered\n\n" + "Text. " * 20
        with self._lock:
            if self._is_calm:
                return Answer(text=text)
            if self._chance.random() < self._faults:
                return self._fault(text)
            seconds = self._chance.uniform(*THINKING_S)
        time.sleep(seconds)
        return Answer(text=text)

    def _fault(self, text: str) -> Answer:
        kind = self._chance.choice(FAULTS)
        if kind.isdigit():
            return Answer(status=int(kind), text="Not now.")
        if kind == "retry later":
            return Answer(status=429, text="Slow down.", headers={"Retry-After": "1"})
        if kind == "length":
            return Answer(text=text, truncated=True)
        gate = self._gate() if kind in ("hang", "stall") else None
        return Answer(text=text, fault=cast(Fault, kind), gate=gate, pause_s=0.1)

    def _gate(self) -> threading.Event:
        """Return an event that is set after `HANGS_S`, or by `calm_down`."""
        gate = threading.Event()
        self._gates.add(gate)
        timer = threading.Timer(HANGS_S, gate.set)
        timer.daemon = True
        timer.start()
        return gate
