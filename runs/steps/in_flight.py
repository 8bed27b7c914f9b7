"""The steps that this process is executing, and the heartbeat that renews their leases."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connections

from config.base.databases import CONTROL
from llm.clients.abort import Abort
from runs.steps.claim import leases_renew
from runs.steps.finish import EndedCall
from runs.steps.turn import NO_CALL
from runs.turns import Outcome, Turn, renew
from runs.types import Claim
from tenants.routing.context import tenant_context

logger = logging.getLogger(__name__)

# Renewals at a time. Each connects to one tenant, and a tenant that cannot be reached must not delay the others.
RENEWERS = 4


@dataclass(eq=False)
class Flight:
    """A claimed step that a thread of this process is executing."""

    claim: Claim
    # None: the step is executed by hand, without a worker.
    turn: Turn | None = None
    abort: Abort = field(default_factory=Abort)
    # The call under way or made; None before that.
    call: EndedCall | None = None
    # What the call says about its provider.
    outcome: Outcome = NO_CALL
    # Seconds from `time.monotonic` when the claim was found lost; None while it is current.
    lost_at: float | None = None
    # The worker is stopping: the step is returned without using up an attempt.
    returning: threading.Event = field(default_factory=threading.Event)

    def return_step(self) -> None:
        """Abort the call, so that the thread returns the step."""
        self.returning.set()
        self.abort.abort()


class InFlight:
    """The flights of one process. A thread renews their leases as long as there are any."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._flights: set[Flight] = set()
        self._thread: threading.Thread | None = None
        # The worker stops, and no longer waits for calls: no step may begin.
        self._is_returning = False
        # Tenants whose last renewal failed or is late; they come last, so that the others need not wait for them.
        self._failing: set[str] = set()
        # Renewals that have begun, by tenant. One that hangs must not occupy a second thread.
        self._begun: dict[str, Future[None]] = {}

    def start(self, claim: Claim, turn: Turn | None) -> Flight:
        flight = Flight(claim, turn)
        with self._lock:
            self._flights.add(flight)
            if self._is_returning:
                flight.return_step()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()
        return flight

    def end(self, flight: Flight) -> None:
        with self._lock:
            self._flights.discard(flight)
            self._lock.notify_all()

    def count(self) -> int:
        with self._lock:
            return len(self._flights)

    @property
    def is_returning(self) -> bool:
        """Whether the worker is stopping, so that steps in flight, and any that begin now, are returned."""
        return self._is_returning

    def return_all(self) -> int:
        """Abort all calls, so that their steps are returned; return the number of flights.

        Steps that begin later are returned too.
        """
        with self._lock:
            self._is_returning = True
            flights = list(self._flights)
        for flight in flights:
            flight.return_step()
        return len(flights)

    def abandon(self) -> None:
        """Forget everything: after a fork the threads belong to the parent."""
        self.__init__()  # type: ignore[misc]

    def _all(self) -> list[Flight]:
        with self._lock:
            return list(self._flights)

    def _beat(self) -> None:
        with ThreadPoolExecutor(RENEWERS, thread_name_prefix="heartbeat") as renewers:
            while self._wait_for_beat():
                self._renew_all(renewers)

    def _wait_for_beat(self) -> bool:
        """Wait for the next beat, and return True; return False once there are no flights, so that the thread ends."""
        interval_s = settings.RUN_LEASE_S / 3
        with self._lock:
            if self._lock.wait_for(lambda: not self._flights, timeout=interval_s):
                self._thread = None
                return False
        return True

    def _renew_all(self, renewers: ThreadPoolExecutor) -> None:
        """Renew all turns, and the leases of each tenant whose last renewal has ended.

        What has not begun when the next beat is due is left to that beat.
        """
        flights = defaultdict(list)
        renew([flight.turn for flight in self._all() if flight.turn])
        for flight in self._all():
            flights[flight.claim.tenant_id].append(flight)
        self._begun = {tenant_id: renewal for tenant_id, renewal in self._begun.items() if not renewal.done()}
        order = sorted(flights.keys() - self._begun, key=lambda tenant_id: tenant_id in self._failing)
        renewals = {one: renewers.submit(self._renew, one, flights[one]) for one in order}
        wait(renewals.values(), timeout=settings.RUN_LEASE_S / 3)
        late = {one: renewal for one, renewal in renewals.items() if not renewal.done() and not renewal.cancel()}
        self._failing |= late.keys()
        self._begun |= late

    def _renew(self, tenant_id: str, flights: list[Flight]) -> None:
        """Renew the leases of one tenant's flights, and note the claims that were lost.

        A failure is logged; the lease outlives two of them.
        """
        try:
            with tenant_context(tenant_id) as alias:
                lost = leases_renew(alias=alias, claims=[flight.claim for flight in flights])
        except Exception as error:
            self._failing.add(tenant_id)
            extra = {"action": "lease.renew", "tenant": tenant_id, "error": type(error).__name__}
            logger.warning("leases not renewed", extra=extra)
            return
        finally:
            connections[CONTROL].close()
        self._failing.discard(tenant_id)
        for flight in flights:
            if flight.claim in lost and flight in self._all():
                _lose(flight)


def _lose(flight: Flight) -> None:
    """Note that the claim was lost; abort the call if it has not ended within the length of a lease.

    Until then it may end by itself, so that its cost is known.

    Only the abort is logged: a step that has just been completed is no longer claimed either, and the code that
    discards a result logs it (`runs.steps.execute`).
    """
    if flight.lost_at is None:
        flight.lost_at = time.monotonic()
    elif time.monotonic() - flight.lost_at > settings.RUN_LEASE_S and not flight.abort.aborted:
        claim = flight.claim
        extra = {"action": "lease.lost", "tenant": claim.tenant_id, "run_id": str(claim.run_id), "step": claim.step}
        logger.warning("call aborted, its claim was lost", extra=extra)
        flight.abort.abort()


in_flight = InFlight()
os.register_at_fork(after_in_child=in_flight.abandon)
