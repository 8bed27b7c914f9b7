"""What can be done with runs: one operation, one module."""

from runs.services.claim import lease_renew, step_claim
from runs.services.create import run_create
from runs.services.execute import step_execute
from runs.services.finish import step_complete, step_fail, step_retry
from runs.services.read import run_read, run_read_record
from runs.services.sweep import runs_sweep
from runs.services.watch import run_watch

__all__ = [
    "lease_renew",
    "run_create",
    "run_read",
    "run_read_record",
    "run_watch",
    "runs_sweep",
    "step_claim",
    "step_complete",
    "step_execute",
    "step_fail",
    "step_retry",
]
