"""Refusals and failures around runs; each names the run, the step or the file."""

from config.errors import SeoGenError
from tenants.errors import StorageError


class RunError(SeoGenError):
    """Root of this app's errors. One that comes up while a step works fails the step: trying again gives the same."""


class InvalidRunConfig(RunError):
    """A run's configuration cannot be accepted, or the tenant lacks something that it needs."""


class UnknownRun(RunError):
    """The tenant has no run with this id."""


class NoPrompt(RunError):
    """A step has no prompt pinned."""


class BrokerUnavailable(RunError):
    """The message broker does not answer, so that no worker would hear of a run."""


class NoWorker(RunError):
    """No Celery worker listens on our queue."""


class MessageTooLarge(RunError):
    """A Celery message holds more than a wake-up needs."""


class LeaseLost(RunError):
    """Another worker has taken the step over; what this one made of it must not be kept."""


class InvalidPath(RunError):
    """A path is not one of the active tenant's storage."""


class OutputKept(StorageError):
    """A step's output is written, but not what follows from it: the next attempt adopts it, and counts its tokens."""


class MissingFile(RunError):
    """A file that the database knows is not in the storage."""


class DigestMismatch(RunError):
    """A stored file is not what was written."""
