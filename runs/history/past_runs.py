"""The hooks with which `prompts` shows how prompts were used, and tries them with the values of a past run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from django.utils.translation import gettext as _
from pydantic import ValidationError

from llm.types import ResolvedModel
from prompts.types import PastRun, PromptVariable, VersionUsage
from prompts.validation import first_problem
from runs.config import ModelChoice
from runs.errors import InvalidRunConfig
from runs.history.usage import prompt_usage
from runs.history.values import newest_runs, run_values
from runs.services.plan import step_model


class RunHistory:
    """Implements `prompts.app_hooks.PastRuns`."""

    def usage(self, *, alias: str, prompt_ids: Collection[int]) -> Mapping[int, VersionUsage]:
        return prompt_usage(alias=alias, prompt_ids=prompt_ids)

    def model(self, *, alias: str, step: str, provider_id: str | None, model_class: str | None) -> ResolvedModel | None:
        choice = None
        if provider_id is not None or model_class is not None:
            try:
                choice = ModelChoice(provider=provider_id, model_class=model_class)
            except ValidationError as error:
                raise InvalidRunConfig(
                    _("The model cannot be chosen: %(problem)s.") % {"problem": first_problem(error)}
                ) from error
        return step_model(alias=alias, step=step, choice=choice)

    def newest(self, *, alias: str) -> list[PastRun]:
        return newest_runs(alias=alias)

    def values(
        self, *, alias: str, run_id: str, step: str, variables: Iterable[PromptVariable]
    ) -> Mapping[str, object]:
        return run_values(alias=alias, run_id=run_id, step=step, variables=variables)
