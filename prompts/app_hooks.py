"""What the app above (`runs`) provides: how its runs used prompts, and values to try them with.

`runs` registers its implementation when Django starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Protocol

from django.utils.module_loading import import_string

from llm.types import ResolvedModel
from prompts.types import PastRun, PromptVariable, VersionUsage


class PastRuns(Protocol):
    def usage(self, *, alias: str, prompt_ids: Collection[int]) -> Mapping[int, VersionUsage]:
        """Return {version id: usage}; versions with which no step has begun are left out."""

    def model(self, *, alias: str, step: str, provider_id: str | None, model_class: str | None) -> ResolvedModel | None:
        """Return the model that new runs of the tenant use for the step, with the tenant's output limit.

        The provider or the class, if given, takes precedence, as a run's own choice does. Returns None if the step is
        not in the pipeline. Raises `LLMError`.
        """

    def newest(self, *, alias: str) -> list[PastRun]:
        """Return recent runs, newest first, so that staff can choose one to take values from."""

    def values(
        self, *, alias: str, run_id: str, step: str, variables: Iterable[PromptVariable]
    ) -> Mapping[str, object]:
        """Return the values that the step's prompt would get in this run.

        They are the run's inputs, the outputs of its steps that `variables` names, and the step's review comment.

        Call this in the tenant's context. Raises `UnknownRun`, `InvalidRunConfig`, `MissingFile`, `DigestMismatch`,
        `InvalidPath` or `StorageError`.
        """


_registered: list[str] = []


def register(dotted_path: str) -> None:
    """Register a class that implements `PastRuns`; it is imported on first use."""
    _registered.append(dotted_path)


@cache
def past_runs() -> PastRuns:
    """Return an instance of the registered class."""
    [only] = _registered
    made: PastRuns = import_string(only)()
    return made
