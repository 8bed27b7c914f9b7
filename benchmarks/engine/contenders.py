"""The contenders: the product, DBOS and a bare Celery chain. Each adds runs, executes them and counts finished ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import psycopg

from benchmarks import children
from benchmarks.environment import Environment
from config import stack
from config.stack.workers import WORKER_PROCESSES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Of the product's own worker; everybody gets as much.
CONCURRENCY = WORKER_PROCESSES
# The product's runs are spread over so many customers.
TENANTS = 4


class Contender(Protocol):
    def enqueue(self, runs: int) -> object:
        """Add runs while no worker is running."""

    def worker(self) -> AbstractContextManager[object]:
        """Work while the block lasts."""

    def finished(self) -> int:
        """Return how many runs are finished in total."""


class Product:
    """The product: its services and its worker, started like `seo-gen stack start` does."""

    def __init__(self, environment: Environment) -> None:
        from tenants.lifecycle.create import tenant_create

        self._home = environment.home
        self._tenants = [tenant_create(name=f"Steps {number}").id for number in range(TENANTS)]
        self._next_tenant = cycle(self._tenants)

    def enqueue(self, runs: int) -> list[tuple[str, UUID]]:
        """Return tenant and id of each run."""
        from runs.services.create import run_create

        config = {"keyword": "coffee", "language": "en"}
        tenants = islice(self._next_tenant, runs)
        return [(tenant_id, run_create(tenant_id=tenant_id, config=config).pk) for tenant_id in tenants]

    @contextmanager
    def worker(self) -> Iterator[None]:
        stack.start(self._home, ["worker"])
        try:
            yield
        finally:
            stack.stop(self._home, ["worker"])

    def finished(self) -> int:
        from runs.models import Run, RunStatus
        from tenants.routing.context import tenant_context

        count = 0
        for tenant_id in self._tenants:
            with tenant_context(tenant_id) as alias:
                count += Run.objects.using(alias).filter(status=RunStatus.COMPLETED).count()
        return count


class Dbos:
    """DBOS with a queue whose workers take so many workflows at once, in one process or in several."""

    def __init__(self, environment: Environment, name: str, steps: list[str], *, processes: int, poll_s: float) -> None:
        self._environment = environment
        self._name = name
        self._processes = processes
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
        each = CONCURRENCY // self._processes
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
    """A chain of tasks on the same broker, which stores no results."""

    def __init__(self, environment: Environment, steps: list[str]) -> None:
        self._environment = environment
        self._steps = steps
        # Without Django: Celery would set it up and run its hooks at each task.
        self._variables = {"BARE_BROKER_URL": environment.broker_url, "DJANGO_SETTINGS_MODULE": ""}

    def enqueue(self, runs: int) -> None:
        code = f"from benchmarks.engine.celery_chain import enqueue; enqueue({runs}, {self._steps!r})"
        with children.child(["-c", code], log=self._environment.log("bare"), environment=self._variables) as process:
            process.finish()

    def worker(self) -> AbstractContextManager[children.Child]:
        pool = ["--concurrency", str(CONCURRENCY), "--loglevel", "INFO"]
        return children.child(
            ["-m", "celery", "-A", "benchmarks.engine.celery_chain", "worker", *pool],
            log=self._environment.log("bare"),
            environment=self._variables,
        )

    def finished(self) -> int:
        """Only the model's server counts them, and it is reset between rounds."""
        return len(self._environment.llm.times()) // len(self._steps)
