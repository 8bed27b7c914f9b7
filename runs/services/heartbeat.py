"""Renew a claim's lease in the background while its holder waits for a model."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from django.db import connections

from runs.types import Claim

logger = logging.getLogger(__name__)


class Heartbeat:
    """Call `renew` every `interval_s` seconds until the block ends or `renew` returns False (the lease is lost).

    If `renew` fails, the failure is logged and the next beat tries again; the lease outlives two failures. `lost` only
    saves work: the fencing token in the database decides.
    """

    def __init__(self, claim: Claim, renew: Callable[[Claim], bool], *, interval_s: float) -> None:
        self._claim = claim
        self._renew = renew
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{claim.step}", daemon=True)

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            while not self._ended.wait(self._interval_s) and not self.lost:
                self._renew_once()
        finally:
            # This thread's own connection; the tenant's went back to the pool with its context.
            connections["default"].close()

    def _renew_once(self) -> None:
        extra = {"action": "lease.renew", "tenant": self._claim.tenant_id, "run_id": str(self._claim.run_id)}
        try:
            if not self._renew(self._claim):
                self._lost.set()
                logger.warning("lease lost to another worker", extra={**extra, "step": self._claim.step})
        except Exception:
            logger.warning("lease not renewed", exc_info=True, extra={**extra, "step": self._claim.step})
