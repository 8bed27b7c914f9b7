"""The hooks with which `prompts` shows how prompts were used, and tries them with the values of a past run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from prompts.types import PastRun, PromptVariable, VersionUsage
from runs.history.usage import prompt_usage
from runs.history.values import newest_runs, run_values


class RunHistory:
    """Implements `prompts.app_hooks.PastRuns`."""

    def usage(self, *, alias: str, prompt_ids: Collection[int]) -> Mapping[int, VersionUsage]:
        return prompt_usage(alias=alias, prompt_ids=prompt_ids)

    def newest(self, *, alias: str) -> list[PastRun]:
        return newest_runs(alias=alias)

    def values(
        self, *, alias: str, run_id: str, step: str, variables: Iterable[PromptVariable]
    ) -> Mapping[str, object]:
        return run_values(alias=alias, run_id=run_id, step=step, variables=variables)
