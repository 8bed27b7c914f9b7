"""Kill, stop and freeze processes, and disturb RabbitMQ, at random moments, in each way at least once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.runs.chaos.plan import LEASE_S
from tests.runs.chaos.rabbit import Rabbit
from tests.runs.chaos.system import System

# The pause between two disturbances.
PAUSE_S = (0.1, 0.6)
# How long a server is frozen: longer than the workers wait for an answer from Valkey.
FREEZE_S = (0.3, 2.0)
# How long a worker is frozen: it may keep its leases, or lose them.
FREEZE_WORKER_S = (0.3, 1.5 * LEASE_S)

Disturbance = Callable[[], None]


class Disturber:
    """Disturbs the system from a thread until `stop_after`, in rounds: each has every kind once, in random order."""

    def __init__(self, system: System, rabbit: Rabbit | None, *, seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self._system = system
        self._rabbit = rabbit
        self._chance = random.Random(f"disturber {seed}")
        self._is_round_done = threading.Event()
        self._is_stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="disturber")

    def start(self) -> None:
        self._thread.start()

    def stop_after(self, deadline: float) -> None:
        """Stop at `deadline` (monotonic time), but not before each kind of disturbance has happened.

        Raises the error that ended the thread, if any.
        """
        while time.monotonic() < deadline or not self._is_round_done.is_set():
            if not self._thread.is_alive():
                break
            time.sleep(0.05)
        self._is_stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                self._round()
                self._is_round_done.set()
        except BaseException as error:
            self._failure = error

    def _round(self) -> None:
        kinds = list(self._kinds().items())
        self._chance.shuffle(kinds)
        for name, disturb in kinds:
            if self._is_stopping.wait(self._chance.uniform(*PAUSE_S)):
                return
            self._system.keep_up()
            disturb()
            self.counts[name] += 1
            self._system.keep_up()

    def _kinds(self) -> dict[str, Disturbance]:
        kinds = {
            "worker killed": self._kill_worker,
            "worker stopped": lambda: self._chance.choice(self._system.living("worker")).dismiss(),
            "worker frozen": self._freeze_worker,
            "worker frozen beyond its lease": lambda: self._freeze_worker(1.5 * LEASE_S),
            "beat killed": lambda: self._system.kill(self._chance.choice(self._system.living("beat"))),
            "beat frozen": self._freeze_beat,
            "PostgreSQL killed": lambda: self._system.kill_server("postgres"),
            "PostgreSQL frozen": lambda: self._freeze_server("postgres"),
            "Valkey killed": lambda: self._system.kill_server("valkey"),
            "Valkey frozen": lambda: self._freeze_server("valkey"),
        }
        if self._rabbit is not None:
            kinds |= {
                "RabbitMQ's connections closed": self._rabbit.close_connections,
                "RabbitMQ's messages lost": self._rabbit.purge,
            }
        return kinds

    def _kill_worker(self) -> None:
        self._system.kill(self._chance.choice(self._system.living("worker")))

    def _freeze_worker(self, seconds: float | None = None) -> None:
        worker = self._chance.choice(self._system.living("worker"))
        self._system.freeze(worker, seconds or self._chance.uniform(*FREEZE_WORKER_S))

    def _freeze_beat(self) -> None:
        self._system.freeze(self._system.living("beat")[0], self._chance.uniform(*FREEZE_S))

    def _freeze_server(self, name: str) -> None:
        self._system.freeze_server(name, self._chance.uniform(*FREEZE_S))
