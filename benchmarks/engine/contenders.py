"""What the product is compared with: DBOS and a bare Celery chain. Each adds runs, executes them and counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import psycopg

from benchmarks import children
from benchmarks.environment import Environment

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Steps at a time, as many as the product's own worker executes.
CONCURRENCY = 64


class Contender(Protocol):
    def enqueue(self, runs: int) -> object:
        """Add runs while no worker is running."""

    def worker(self) -> AbstractContextManager[object]:
        """Run a worker for the duration of the block."""

    def finished(self) -> int:
        """Return how many runs have finished so far."""


class Dbos:
    """DBOS with a queue whose workers run a given number of workflows at a time, in one process or in several."""

    def __init__(
        self, environment: Environment, name: str, steps: list[str], *, processes: int, concurrency: int, poll_s: float
    ) -> None:
        self._environment = environment
        self._name = name
        self._processes = processes
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._url = environment.create_database(name)
        self._variables = {"DBOS_URL": self._url, "BENCHMARK_STEPS": ",".join(steps), "DJANGO_SETTINGS_MODULE": ""}
        with self.worker():
            pass  # creates its tables

    def enqueue(self, runs: int) -> None:
        with self._child("enqueue", str(runs)) as process:
            process.finish()

    @contextmanager
    def worker(self) -> Iterator[None]:
        each = self._concurrency // self._processes
        with ExitStack() as started:
            for _ in range(self._processes):
                started.enter_context(self._child("work", str(each), str(self._poll_s))).answer()
            yield

    def finished(self) -> int:
        with psycopg.connect(self._url) as connection:
            query = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND name = 'write_article'"
            return int(connection.execute(query).fetchone()[0])  # type: ignore[index]

    def _child(self, *arguments: str) -> AbstractContextManager[children.Child]:
        return children.child(
            ["-m", "benchmarks.engine.dbos_worker", *arguments],
            log=self._environment.log(self._name),
            environment=self._variables,
        )


class BareCelery:
    """A chain of Celery tasks on the product's broker, without stored results."""

    def __init__(self, environment: Environment, steps: list[str], *, pool: str, concurrency: int) -> None:
        self._environment = environment
        self._steps = steps
        self._pool = ["--pool", pool, "--concurrency", str(concurrency)]
        # Without Django, which Celery would otherwise set up, running its hooks at each task.
        self._variables = {"BARE_BROKER_URL": environment.broker_url, "DJANGO_SETTINGS_MODULE": ""}

    def enqueue(self, runs: int) -> None:
        code = f"from benchmarks.engine.celery_chain import enqueue; enqueue({runs}, {self._steps!r})"
        with children.child(["-c", code], log=self._environment.log("bare"), environment=self._variables) as process:
            process.finish()

    def worker(self) -> AbstractContextManager[children.Child]:
        return children.child(
            ["-m", "celery", "-A", "benchmarks.engine.celery_chain", "worker", *self._pool, "--loglevel", "INFO"],
            log=self._environment.log("bare"),
            environment=self._variables,
        )

    def finished(self) -> int:
        """Return how many runs have finished, computed from the calls of this round: nothing else counts runs."""
        return len(self._environment.llm.times()) // len(self._steps)
