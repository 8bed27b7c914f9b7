"""People who create, pause, resume, retry and cancel runs and suspend tenants at random, and note the outcomes."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from audit.log.actor import acting_as
from config.base.errors import SeoGenError
from runs.errors import RunError
from runs.models import Run, RunStatus
from runs.services.cancel import run_cancel
from runs.services.create import run_create
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.services.retry import run_retry
from tenants.errors import TenantNotActive
from tenants.lifecycle.suspend import tenant_resume, tenant_suspend
from tests.runs.chaos.plan import STEPS

PROVIDER = "openai"
ACTOR = "operator:chaos"
# The pause between two actions of one person.
THINKING_S = (0.05, 0.5)
SUSPENDED_S = (0.2, 2.0)
# Whether it was done; "unclear" after an error that does not say, such as a lost connection.
Outcome = Literal["done", "refused", "unclear"]
Action = Literal["create", "hold", "pause", "resume", "retry", "retry from", "cancel"]
# The action of the audit entry.
AUDITED: dict[Action, str] = {
    "create": "run.create",
    "hold": "run.create",
    "pause": "run.pause",
    "resume": "run.resume",
    "retry": "run.retry",
    "retry from": "run.retry",
    "cancel": "run.cancel",
}
# What people do with a run, by the state in which they see it; some of it makes no sense in that state.
USUAL: dict[str, tuple[Action, ...]] = {
    RunStatus.PENDING: ("pause", "pause", "cancel"),
    RunStatus.RUNNING: ("pause", "pause", "pause", "cancel"),
    RunStatus.PAUSED: ("resume", "resume", "resume", "retry from", "cancel"),
    RunStatus.FAILED: ("retry", "retry", "retry from"),
    RunStatus.COMPLETED: (),
}
ANY: tuple[Action, ...] = ("pause", "resume", "retry", "retry from", "cancel")


@dataclass(frozen=True)
class Deed:
    """Something that a person did, or tried to do."""

    tenant_id: str
    # None if the run was to be created.
    run_id: UUID | None
    action: Action
    operation_id: str
    outcome: Outcome


class Records:
    """All deeds, and the runs that are known to exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.deeds: list[Deed] = []
        self.runs: list[tuple[str, UUID]] = []
        self.suspensions = 0

    def add(self, deed: Deed) -> None:
        with self._lock:
            self.deeds.append(deed)

    def know(self, tenant_id: str, run_id: UUID) -> None:
        with self._lock:
            self.runs.append((tenant_id, run_id))

    def count_suspension(self) -> None:
        with self._lock:
            self.suspensions += 1

    def created(self) -> int:
        with self._lock:
            return len(self.runs)


def act(records: Records, tenant_id: str, run_id: UUID | None, action: Action, do: Callable[[], Run]) -> Run | None:
    """Call `do` in an operation of its own, and note the outcome; return the run if it was done, else None."""
    operation_id = uuid.uuid4().hex
    done: Run | None = None
    outcome: Outcome = "unclear"
    close_old_connections()
    with acting_as(ACTOR, operation_id):
        try:
            done, outcome = do(), "done"
        except (RunError, TenantNotActive):
            outcome = "refused"
        except (SeoGenError, *CONNECTION_ERRORS):
            pass
    records.add(Deed(tenant_id, run_id, action, operation_id, outcome))
    return done


CONNECTION_ERRORS = (DatabaseError, InterfaceError)


def create(records: Records, tenant_id: str, keyword: str, *, hold: bool) -> bool:
    models = {step: {"provider": PROVIDER, "model_class": "standard"} for step in STEPS}
    config = {"keyword": keyword, "language": "en", "steps": list(STEPS), "models": models}
    run = act(
        records,
        tenant_id,
        None,
        "hold" if hold else "create",
        lambda: run_create(tenant_id=tenant_id, config=config, hold=hold),
    )
    if run is not None:
        records.know(tenant_id, run.pk)
    return run is not None


def change(records: Records, tenant_id: str, run_id: UUID, action: Action, *, from_step: str | None = None) -> None:
    services: dict[Action, Callable[[], Run]] = {
        "pause": lambda: run_pause(tenant_id=tenant_id, run_id=run_id),
        "resume": lambda: run_resume(tenant_id=tenant_id, run_id=run_id),
        "retry": lambda: run_retry(tenant_id=tenant_id, run_id=run_id),
        "retry from": lambda: run_retry(tenant_id=tenant_id, run_id=run_id, from_step=from_step),
        "cancel": lambda: run_cancel(tenant_id=tenant_id, run_id=run_id),
    }
    act(records, tenant_id, run_id, action, services[action])


class Person:
    """A thread that acts until `stop`."""

    def __init__(self, name: str, records: Records, tenant_ids: list[str], *, runs: int, over_s: float) -> None:
        self._records = records
        self._tenant_ids = tenant_ids
        self._chance = random.Random(name)
        self._name = name
        self._runs = runs
        # Seconds over which the runs are created.
        self._over_s = over_s
        self._is_stopping = threading.Event()
        # Attempts to create a run.
        self._attempts = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        begun, created = time.monotonic(), 0
        try:
            while not self._is_stopping.wait(self._chance.uniform(*THINKING_S)):
                due = self._over_s <= 0 or (time.monotonic() - begun) / self._over_s * self._runs >= created
                if created < self._runs and due:
                    created += self._create(created + 1)
                else:
                    self._steer()
        except BaseException as error:
            self._failure = error
        finally:
            connections.close_all()

    def _create(self, number: int) -> bool:
        """Create a run with a unique keyword; return False if this must be tried again."""
        tenant_id = self._chance.choice(self._tenant_ids)
        self._attempts += 1
        keyword = f"{self._name} {number} {self._attempts}"
        return create(self._records, tenant_id, keyword, hold=self._chance.random() < 0.1)

    def _steer(self) -> None:
        if self._chance.random() < 0.05:
            self._suspend(self._chance.choice(self._tenant_ids))
        elif self._records.runs:
            tenant_id, run_id = self._chance.choice(self._records.runs)
            action = self._chosen(tenant_id, run_id)
            if action is not None:
                change(self._records, tenant_id, run_id, action, from_step=self._chance.choice(STEPS))

    def _chosen(self, tenant_id: str, run_id: UUID) -> Action | None:
        """Return what a person would do with the run or, one time in five, anything; None to leave it alone."""
        if self._chance.random() < 0.2:
            return self._chance.choice(ANY)
        status = status_of(tenant_id, run_id)
        usual = USUAL[status] if status else ()
        return self._chance.choice(usual) if usual else None

    def _suspend(self, tenant_id: str) -> None:
        close_old_connections()
        with acting_as(ACTOR):
            try:
                tenant_suspend(tenant_id=tenant_id)
            except (SeoGenError, *CONNECTION_ERRORS):
                return  # another person was faster, or the database is down; all are resumed at the end
            self._records.count_suspension()
            self._is_stopping.wait(self._chance.uniform(*SUSPENDED_S))
            resume_tenant(tenant_id)


def resume_tenant(tenant_id: str) -> None:
    close_old_connections()
    try:
        tenant_resume(tenant_id=tenant_id)
    except (SeoGenError, *CONNECTION_ERRORS):
        return  # as above


def status_of(tenant_id: str, run_id: UUID) -> str | None:
    """Return the run's status; None if the tenant or a database cannot be used now."""
    from tenants.routing.context import tenant_context

    close_old_connections()
    try:
        with tenant_context(tenant_id) as alias:
            return Run.objects.using(alias).values_list("status", flat=True).get(pk=run_id)
    except (SeoGenError, *CONNECTION_ERRORS):
        return None
