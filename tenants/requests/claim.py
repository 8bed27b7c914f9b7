"""Claim a request, with a lease in database time and a fencing token, and end it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Now

from audit.log.actor import acting_as
from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.models import ABOUT_SEVERAL, OperationRequest, RequestStatus

logger = logging.getLogger(__name__)

WAITING = Q(status=RequestStatus.REQUESTED, due_at__lte=Now())
# Its worker no longer renews the lease.
LAPSED = Q(status=RequestStatus.RUNNING, lease_until__lt=Now())
DUE = WAITING | LAPSED
# How often progress is written, in seconds, so that the page of a running operation can show it.
REPORT_S = 0.5


def request_claim(owner: str, request_id: UUID | None = None) -> OperationRequest | None:
    """Claim this request for `owner` if it is due, otherwise the oldest one that is; return None if none was claimed.

    Operations on one tenant run one after another: a request waits while another one on its tenant is running.
    """
    due = OperationRequest.objects.using(CONTROL).filter(DUE)
    busy = OperationRequest.objects.using(CONTROL).filter(status=RequestStatus.RUNNING, lease_until__gte=Now())
    free = due.exclude(tenant_id__in=busy.values("tenant_id")).order_by("requested_at").values_list("pk", flat=True)
    wanted = free.filter(pk=request_id) if request_id else ()
    for candidate in chain(wanted, free[:10]):
        claimed = _take(owner, candidate)
        if claimed is not None:
            return claimed
    return None


def _take(owner: str, request_id: UUID) -> OperationRequest | None:
    with transaction.atomic(using=CONTROL):
        rows = OperationRequest.objects.using(CONTROL).filter(DUE, pk=request_id)
        before = rows.select_for_update(skip_locked=True).first()
        if before is None:
            return None
        rows.update(
            status=RequestStatus.RUNNING,
            owner=owner,
            fence=F("fence") + 1,
            lease_until=Now() + lease(),
            started_at=Coalesce(F("started_at"), Now()),
            lost_workers=F("lost_workers") + Value(int(before.status == RequestStatus.RUNNING)),
        )
        claimed = OperationRequest.objects.using(CONTROL).get(pk=request_id)
        if before.started_at is None:
            with acting_as(claimed.requested_by, operation_id=str(claimed.pk)):
                request_audit(claimed, "operation.start", worker=owner)
    return claimed


def lease() -> timedelta:
    return timedelta(seconds=settings.OPERATION_LEASE_S)


class Progress:
    """The step that an operation has reached. A thread writes it to the request, together with the lease.

    The operation cannot write its progress itself: it may be inside a transaction, or in one of several threads.
    """

    def __init__(self, claimed: OperationRequest) -> None:
        self._claimed = claimed
        self._now: tuple[str, int, int] = (claimed.step, claimed.done, claimed.total)
        self._written = self._now
        self._stop = threading.Event()

    def on_step(self, step: str, done: int, total: int) -> None:
        self._now = (step, done, total)

    @property
    def has_begun(self) -> bool:
        """Whether the operation has reached a step, in this claim or an earlier one."""
        return bool(self._now[0])

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease and write the progress while the block runs."""
        thread = threading.Thread(target=self._keep, name="operation", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(min(REPORT_S, settings.OPERATION_LEASE_S / 4)):
            late = time.monotonic() - renewed > settings.OPERATION_LEASE_S / 4
            if not late and self._now == self._written:
                continue
            try:
                self._write()
                renewed = time.monotonic()
            except (DatabaseError, InterfaceError) as error:
                # If another worker takes the request, that worker finds the tenant locked by this one.
                extra = {"action": "operation.lease", "operation": str(self._claimed.pk), "error": type(error).__name__}
                logger.warning("lease not renewed", extra=extra)
            finally:
                connections[CONTROL].close()

    def _write(self) -> None:
        step, done, total = now = self._now
        held(self._claimed).update(step=step, done=done, total=total, lease_until=Now() + lease())
        self._written = now


def held(claimed: OperationRequest) -> Any:
    """Return a queryset of the request's row, which is empty if this claim no longer holds the request."""
    rows = OperationRequest.objects.using(CONTROL)
    return rows.filter(pk=claimed.pk, fence=claimed.fence, status=RequestStatus.RUNNING)


def request_end(
    claimed: OperationRequest,
    status: RequestStatus,
    *,
    result: dict[str, Any] | None = None,
    code: str = "",
    error: str = "",
) -> bool:
    """Close the request, unless another worker has taken it meanwhile; return whether this claim closed it."""
    with transaction.atomic(using=CONTROL):
        ended = held(claimed).update(
            status=status, result=result, error_code=code, error=error, finished_at=Now(), owner="", lease_until=None
        )
        if ended:
            request_audit(claimed, "operation.end", status=status.value, code=code, **(result or {}))
    return bool(ended)


def request_put_back(claimed: OperationRequest, wait: timedelta) -> None:
    """Let the request wait again, for at least this long, unless another worker has taken it meanwhile."""
    held(claimed).update(status=RequestStatus.REQUESTED, due_at=Now() + wait, owner="", lease_until=None)


def request_audit(request: OperationRequest, action: str, **details: object) -> None:
    """Write an entry about the request; call this last in the transaction of the change."""
    record(
        using=CONTROL,
        action=action,
        resource_type="tenant",
        # An entry about one tenant is shown to its people, who may not see the others.
        resource_id="*" if request.kind in ABOUT_SEVERAL else request.tenant_id or "*",
        details={"operation": str(request.pk), "kind": request.kind, **details},
    )
