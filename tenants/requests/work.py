"""A worker's side of requested operations: claim one, carry it out under the requester's name, and end it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from uuid import UUID

from django.conf import settings
from django.db import OperationalError
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from config.base.approvals import approval_given
from config.base.errors import SeoGenError, shown_on_page
from tenants.errors import DatabaseUnusable, reason_of
from tenants.models import OperationRequest, RequestKind, RequestStatus
from tenants.requests.claim import Progress, request_claim, request_end, request_put_back
from tenants.requests.errors import OperationBusy, OperationLost, OperationUnfinished
from tenants.requests.interrupted import is_unfinished, made_by, recovered
from tenants.requests.kinds import Result, carry_out
from tenants.requests.request import require_still_allowed

logger = logging.getLogger(__name__)

# If another process has locked the tenant or the fleet, the operation waits, for up to an hour.
BUSY = frozenset({"tenant_busy", "fleet_busy", OperationBusy.code})
BUSY_WAIT = timedelta(seconds=5)
PATIENCE = timedelta(hours=1)
# If an operation has lost so many workers, another try will not help.
MAX_LOST_WORKERS = 5


def operations_work(
    owner: str, request_id: UUID | None = None, *, is_stopping: Callable[[], bool] = lambda: False
) -> int:
    """Carry out this request, if one is given, then others that are due; return how many were carried out.

    A process carries out at most WORKER_OPERATIONS_MAX at a time, so that its other threads stay free for the steps of
    runs. If all places are taken, this returns at once: the thread that frees one takes the next request.
    """
    if not _places().acquire(blocking=False):
        return 0
    number, wanted = 0, request_id
    try:
        while not is_stopping():
            claimed = request_claim(owner, wanted)
            if claimed is None:
                return number
            request_work(claimed)
            number, wanted = number + 1, None
        return number
    finally:
        _places().release()


@cache
def _places() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(settings.WORKER_OPERATIONS_MAX)


def request_work(claimed: OperationRequest) -> None:
    """Carry out a claimed request and end it; if the tenant or the fleet is locked, put it back, for up to `PATIENCE`.

    Its audit entries name the member of staff and the request's id.
    """
    progress = Progress(claimed)
    # The error is stored, and read on the operation's page.
    with shown_on_page(), acting_as(claimed.requested_by, operation_id=str(claimed.pk)):
        try:
            with progress.kept():
                result = _attempt(claimed, progress)
        except SeoGenError as error:
            _stopped(claimed, progress, error)
        except OperationalError as error:
            _stopped(claimed, progress, DatabaseUnusable(reason_of(error)))
        except Exception as error:
            logger.exception("operation failed", extra={"action": "operation.fail", "operation": str(claimed.pk)})
            name = type(error).__name__
            message = _("Unexpected error (%(name)s); see the worker's log.") % {"name": name}
            _stopped(claimed, progress, SeoGenError(message, code="unexpected"))
        else:
            request_end(claimed, RequestStatus.DONE, result=result)


def _attempt(claimed: OperationRequest, progress: Progress) -> Result:
    # The first claim has the fencing token 1; there is nothing to recover.
    if claimed.fence > 1:
        result = recovered(claimed, progress.on_step)
        if result is not None:
            return result
    if claimed.lost_workers >= MAX_LOST_WORKERS:
        raise OperationLost(claimed.lost_workers)
    require_still_allowed(claimed)
    with approval_given(claimed.approval_id, used_for=claimed.pk):
        return carry_out(claimed, progress.on_step)


def _stopped(claimed: OperationRequest, progress: Progress, error: SeoGenError) -> None:
    """End a request whose operation raised an error, or put it back; its status says how far the operation got."""
    if error.code in BUSY and timezone.now() - (claimed.started_at or timezone.now()) < PATIENCE:
        request_put_back(claimed, BUSY_WAIT)
        return
    if isinstance(error, OperationUnfinished) or is_unfinished(claimed):
        status = RequestStatus.UNFINISHED
    else:
        # A drill makes no record.
        has_begun = progress.has_begun if claimed.kind == RequestKind.DRILL else made_by(claimed) is not None
        status = RequestStatus.FAILED if has_begun else RequestStatus.REFUSED
    request_end(claimed, status, code=error.code, error=str(error))
