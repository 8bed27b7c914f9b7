"""Errors of runs. Each message names the run, the step or the file."""

from config.base.errors import SeoGenError
from tenants.errors import StorageError


class RunError(SeoGenError):
    """Base of this app's errors. Raised while a step runs, it fails the step: a retry would fail the same way."""


class InvalidRunConfig(RunError):
    """A run's configuration is invalid, or the tenant lacks something that the run needs."""

    code = "run_config_invalid"


class UnknownRun(RunError):
    """The tenant has no run with this id."""

    code = "run_not_found"


class NoPrompt(RunError):
    """A step has no prompt pinned."""

    code = "prompt_not_pinned"


class BrokerUnavailable(RunError):
    """The message broker does not answer, so no worker could be woken."""

    code = "broker_unreachable"


class NoWorker(RunError):
    """No Celery worker listens on our queue."""

    code = "worker_missing"


class MessageTooLarge(RunError):
    """A Celery message holds more than a wake-up needs."""

    code = "message_too_large"


class LeaseLost(RunError):
    """Another worker has taken over the step; this worker's result must be discarded."""

    code = "step_lease_lost"


class InvalidPath(RunError):
    """A path is outside the active tenant's storage."""

    code = "storage_path_foreign"


class OutputKept(StorageError):
    """A step's output was written, but not its artifact. The next attempt adopts the output and counts its tokens."""

    code = "step_output_kept"


class MissingFile(RunError):
    """A file recorded in the database is missing from the storage."""

    code = "storage_file_missing"


class DigestMismatch(RunError):
    """A stored file has been altered since it was written."""

    code = "storage_file_altered"
