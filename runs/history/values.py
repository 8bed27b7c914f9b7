"""Collect the values that a prompt would get in a past run, so that another version can be tried with them."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from config.base.times import to_minute
from prompts.types import PastRun, PromptVariable
from runs.config import REVIEW_COMMENT, config_from_document
from runs.errors import DigestMismatch
from runs.models import Run, Step
from runs.output import decode
from runs.selectors import run_get
from runs.storage import read

# How many past runs are offered to choose from.
NEWEST = 50
LABEL_CHARS = 60


def newest_runs(*, alias: str) -> list[PastRun]:
    """Return the newest runs, at most `NEWEST`, newest first; a label is the time of creation and the keyword."""
    runs = Run.objects.using(alias).order_by("-created_at", "id").values_list("pk", "config", "created_at")
    return [PastRun(str(pk), _label(config, to_minute(created_at))) for pk, config, created_at in runs[:NEWEST]]


def run_values(*, alias: str, run_id: str, step: str, variables: Iterable[PromptVariable]) -> dict[str, object]:
    """Return the values for a prompt of the step: the run's inputs, the step's review comment, and stored outputs.

    Only the outputs that `variables` names are read, and each is verified against its digest. Raises `UnknownRun`,
    `InvalidRunConfig`, `MissingFile`, `DigestMismatch`, `InvalidPath` or `StorageError`.
    """
    run = run_get(alias=alias, run_id=run_id)
    inputs = config_from_document(run.config).inputs
    wanted = {variable.name for variable in variables} - {REVIEW_COMMENT, *inputs}
    return {**inputs, **_outputs(alias, run, wanted), REVIEW_COMMENT: _comment(alias, run, step)}


def _outputs(alias: str, run: Run, steps: Iterable[str]) -> dict[str, object]:
    rows = Step.objects.using(alias).filter(run=run, step__in=list(steps), output_path__isnull=False)
    return {
        step: _text(str(path), digest)
        for step, path, digest in rows.values_list("step", "output_path", "output_digest")
    }


def _text(path: str, digest: str | None) -> str:
    output = decode(read(path, digest))
    if output is None:
        raise DigestMismatch(_("Storage: %(path)s is not a step output.") % {"path": path})
    return output.text


def _comment(alias: str, run: Run, step: str) -> str:
    comment = Step.objects.using(alias).filter(run=run, step=step).values_list("review_comment", flat=True).first()
    return comment or ""


def _label(config: object, created: str) -> str:
    keyword = config.get("keyword") if isinstance(config, dict) else None
    return f"{created} · {str(keyword or '?')[:LABEL_CHARS]}"
