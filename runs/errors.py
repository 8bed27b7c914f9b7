"""Refusals and failures around runs; each names the run, the step or the file."""

from config.base.errors import SeoGenError
from tenants.errors import StorageError


class RunError(SeoGenError):
    """Root of this app's errors. One that comes up while a step works fails the step: trying again gives the same."""


class InvalidRunConfig(RunError):
    """A run's configuration cannot be accepted, or the tenant lacks something that it needs."""

    code = "run_config_invalid"


class UnknownRun(RunError):
    """The tenant has no run with this id."""

    code = "run_not_found"


class NoPrompt(RunError):
    """A step has no prompt pinned."""

    code = "prompt_not_pinned"


class BrokerUnavailable(RunError):
    """The message broker does not answer, so that no worker would hear of a run."""

    code = "broker_unreachable"


class NoWorker(RunError):
    """No Celery worker listens on our queue."""

    code = "worker_missing"


class MessageTooLarge(RunError):
    """A Celery message holds more than a wake-up needs."""

    code = "message_too_large"


class LeaseLost(RunError):
    """Another worker has taken the step over; what this one made of it must not be kept."""

    code = "step_lease_lost"


class InvalidPath(RunError):
    """A path is not one of the active tenant's storage."""

    code = "storage_path_foreign"


class OutputKept(StorageError):
    """A step's output is written, but not what follows from it: the next attempt adopts it, and counts its tokens."""

    code = "step_output_kept"


class MissingFile(RunError):
    """A file that the database knows is not in the storage."""

    code = "storage_file_missing"


class DigestMismatch(RunError):
    """A stored file is not what was written."""

    code = "storage_file_altered"
