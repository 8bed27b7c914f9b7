"""The product as a contender: its services, and its worker as `seo-gen stack start` starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, cycle
from unittest.mock import patch
from uuid import UUID

from benchmarks.engine.watch import Watch
from benchmarks.environment import Environment
from config import stack


class Product:
    """The product, with tenants and runs whose steps call the model at LOCAL_LLM_URL."""

    def __init__(self, environment: Environment, name: str, *, tenants: int) -> None:
        from tenants.lifecycle.create import tenant_create

        self._environment = environment
        self.tenants = [tenant_create(name=f"{name} {number}").id for number in range(tenants)]
        self._next_tenant = cycle(self.tenants)
        self._numbers = count()

    def enqueue(self, runs: int, *, steps: Sequence[str] | None = None) -> list[tuple[str, UUID]]:
        """Add runs, to each tenant in turn; return (tenant id, run id) for each."""
        return [self.add(next(self._next_tenant), steps=steps)[:2] for _ in range(runs)]

    def add(self, tenant_id: str, *, steps: Sequence[str] | None = None, hold: bool = False) -> tuple[str, UUID, int]:
        """Add a run; return its tenant, its id, and the number in its prompts by which the model's server knows it."""
        from runs.services.create import run_create

        number = next(self._numbers)
        config = {"keyword": f"coffee run-{number}", "language": "en", **({"steps": [*steps]} if steps else {})}
        return tenant_id, run_create(tenant_id=tenant_id, config=config, hold=hold).pk, number

    @contextmanager
    def worker(self, **variables: str) -> Iterator[Watch]:
        """Run a worker in the block, with these variables added to its environment; yield its `Watch`."""
        with patch.dict(os.environ, variables):
            stack.start(self._environment.home, ["worker"])
        try:
            yield Watch(self._environment)
        finally:
            stack.stop(self._environment.home, ["worker"])

    def finished(self) -> int:
        from runs.models import Run, RunStatus
        from tenants.routing.context import tenant_context

        completed = 0
        for tenant_id in self.tenants:
            with tenant_context(tenant_id) as alias:
                completed += Run.objects.using(alias).filter(status=RunStatus.COMPLETED).count()
        return completed

    def forget(self) -> None:
        """Drop all wake-ups in the broker, and these tenants' turns: until a sweep, their runs do not continue."""
        from celery import current_app

        from runs.turns import erase

        current_app.control.purge()
        for tenant_id in self.tenants:
            erase(tenant_id)
