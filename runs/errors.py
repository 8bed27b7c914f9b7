"""Errors that this app raises."""

from collections.abc import Sequence

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError


class RunError(SeoGenError):
    """Base of this app's errors. One that is raised while a step runs fails the step: a retry would fail the same way.

    Exceptions: after `OutputTruncated` the step may be retried with a larger limit, `BudgetReached` pauses the run, and
    after `LeaseLost` the worker discards its result.
    """


class InvalidRunConfig(RunError):
    """A run's configuration is invalid, or something that the run needs is missing or invalid."""

    code = "run_config_invalid"


class InvalidRunList(RunError):
    """A list of runs to start is invalid or too large. `problems` has one message for each problem found."""

    code = "run_list_invalid"

    def __init__(self, problems: Sequence[str], *, hint: str = "") -> None:
        super().__init__(problems[0], hint=hint)
        self.problems = list(problems)


class UnknownRun(RunError):
    """The tenant has no run with this id."""

    code = "run_not_found"


class RunStateConflict(RunError):
    """The run's state does not allow the transition, or has changed since a person read it; `status` is its status."""

    code = "run_state_conflict"

    def __init__(self, message: str, *, status: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class InvalidRunStep(RunError):
    """A run has no such step, cannot continue from it, or has no unfinished step."""

    code = "run_step_invalid"


class InvalidReviewComment(RunError):
    """A comment is empty, too long or cannot be stored, or the prompt that should receive it does not use it."""

    code = "review_comment_invalid"


class TenantReplaced(RunError):
    """The tenant was suspended, restored or otherwise changed while its database was being read."""

    code = "tenant_replaced"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s was suspended, restored or otherwise changed while its database was being read.")
            % {"id": tenant_id},
            hint=_("Run the command again."),
        )


class NoPrompt(RunError):
    """A step has no prompt pinned."""

    code = "prompt_not_pinned"


class BrokerUnavailable(RunError):
    """The message broker does not answer."""

    code = "broker_unreachable"


class NoWorker(RunError):
    """No Celery worker that listens on our queue answers."""

    code = "worker_missing"


class MessageTooLarge(RunError):
    """A Celery message exceeds `MAX_MESSAGE_BYTES`, so it holds more than a wake-up needs."""

    code = "message_too_large"


class BudgetReached(RunError):
    """A call may cost more than is left of a budget, or its possible cost is unknown. The run pauses."""

    code = "budget_reached"


class LeaseLost(RunError):
    """A worker's claim is no longer current, usually because another worker has taken over the step."""

    code = "step_lease_lost"


class InvalidPath(RunError):
    """A path is not a valid path in the active tenant's storage."""

    code = "storage_path_foreign"


class OutputTruncated(RunError):
    """A model's output was truncated, and the step does not accept that.

    The code is "step_context_full" instead if the context window was full, so that a larger limit would not help.
    """

    code = "step_output_truncated"


class MissingFile(RunError):
    """A file recorded in the database is missing from the storage."""

    code = "storage_file_missing"


class DigestMismatch(RunError):
    """A stored file was altered, has no recorded sha256, or is not the step output that it should be."""

    code = "storage_file_altered"
