"""What the pages of runs, steps, artifacts and costs show in their cells."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import PurePosixPath

from django.db.models import Prefetch, QuerySet
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.output import CENT_HUNDREDTH, dollars
from config.base.times import lasting
from config.site.admin_base import (
    as_badge,
    as_link,
)
from runs.models import Artifact, Run, RunCost, RunStatus, Step, StepStatus
from runs.presentation.cost import at_least, units_text
from runs.summaries.rows import ENDED

RUN_COLORS = {
    RunStatus.PENDING: "default",
    RunStatus.RUNNING: "info",
    RunStatus.PAUSED: "warning",
    RunStatus.COMPLETED: "success",
    RunStatus.FAILED: "danger",
}
# The languages that articles can be written in.
LANGUAGES = {"ja": gettext_lazy("Japanese"), "en": gettext_lazy("English")}
# The length of a keyword in a list of other rows.
LINK_CHARS = 30
# The attribute of a run that holds its steps with truncated outputs (`with_truncation`).
TRUNCATED = "truncated_steps"
STEP_COLORS = {
    StepStatus.PENDING: "default",
    StepStatus.RUNNING: "info",
    StepStatus.COMPLETED: "success",
    StepStatus.FAILED: "danger",
}


def elapsed(run: Run, now: datetime) -> str:
    """Return the time from the run's creation to its end or, if it is not over, to `now`."""
    return lasting(((run.updated_at if run.status in ENDED else now) - run.created_at).total_seconds())


def count(number: int | None) -> str | None:
    """Format a count with thousands separators; None stays None."""
    return None if number is None else f"{number:,}"


def money(amount: Decimal | None, unpriced_steps: int, unknown_calls: int) -> str | None:
    """Format US dollars as `dollars` does, after "at least" if a part of the cost is unknown.

    Returns "unknown" if all of it is, and None, which pages show as "-", if there was no cost.
    """
    if amount is None:
        return _("unknown") if unpriced_steps or unknown_calls else None
    return at_least(dollars(amount), bool(unpriced_steps or unknown_calls))


def exact_usd(amount: Decimal | None) -> str | None:
    """Format US dollars with all their decimal places, and at least as many as `dollars` shows; None stays None."""
    if amount is None:
        return None
    return dollars(amount) if amount == amount.quantize(CENT_HUNDREDTH) else f"{amount.normalize():f}"


def units(tokens: dict[str, int] | None) -> str | None:
    return units_text(tokens) if tokens else None


def input_of(run: Run, name: str) -> str | None:
    value = run.config.get(name) if isinstance(run.config, dict) else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def input_label(name: str) -> str:
    """Return an input's label in the reader's language, followed by its name if that differs.

    An input without a label is shown by its name alone.
    """
    labels = {
        "keyword": _("Keyword"),
        "language": _("Language"),
        "audience": _("Audience"),
        "tone": _("Tone"),
        "brand": _("Brand"),
    }
    label = labels.get(name)
    if label is None or label.lower() == name:
        return label or name
    return f"{label} ({name})"


def language_name(language: str | None) -> str:
    return str(LANGUAGES.get(language or "", language or ""))


def cost_of(run: Run) -> RunCost | None:
    return getattr(run, "cost", None)


def model_of(step: Step) -> str:
    return f"{step.llm_provider or '?'}/{step.llm_model or '?'}"


def step_badge(step: Step) -> SafeString:
    badge = as_badge(step.get_status_display(), STEP_COLORS[StepStatus(step.status)])
    return marked(badge, step.is_truncated)


def marked(shown: SafeString, is_truncated: bool) -> SafeString:
    """Return `shown`, followed by a badge if the output was truncated."""
    return (
        format_html('<span class="seo-gen-marked">{} {}</span>', shown, as_badge(_("truncated"), "warning"))
        if is_truncated
        else shown
    )


def with_truncation(artifacts: QuerySet[Artifact]) -> QuerySet[Artifact]:
    """Return a query that also reads which steps of the artifacts' runs have truncated outputs.

    They are prefetched, so that only steps of the shown runs are read. In a subquery, PostgreSQL would read all steps.
    """
    truncated = Step.objects.using(artifacts.db).filter(is_truncated=True).only("run", "step")
    return artifacts.select_related("run").prefetch_related(Prefetch("run__steps", truncated, to_attr=TRUNCATED))


def is_truncated(artifact: Artifact) -> bool:
    """Return whether the text was truncated: at the output limit, or by a full context window.

    The artifact must come from a query of `with_truncation`.
    """
    if isinstance(artifact.metadata, dict) and "version" in artifact.metadata:
        return artifact.metadata.get("is_truncated") is True
    return any(step.step == artifact.step for step in getattr(artifact.run, TRUNCATED, ()))


def seconds_of(step: Step) -> str | None:
    if step.started_at is None or step.completed_at is None:
        return None
    return f"{(step.completed_at - step.started_at).total_seconds():,.1f}"


def file_name_of(artifact: Artifact) -> str:
    return PurePosixPath(artifact.file_path).name


def size_of(artifact: Artifact) -> str | None:
    size_bytes = artifact.metadata.get("size_bytes") if isinstance(artifact.metadata, dict) else None
    return f"{size_bytes:,} B" if isinstance(size_bytes, int) else None


def run_link(run_id: object, text: str | None = None) -> SafeString:
    """Link to a run by `text`, such as its keyword, or by its id if that is empty."""
    return as_link(reverse("admin:runs_run_change", args=[run_id]), shortened(text or str(run_id), LINK_CHARS))


def shortened(text: str, limit: int) -> SafeString:
    """Show the beginning of a text, with all of it as the title.

    The direction of its script does not affect the text around it.
    """
    return format_html('<bdi title="{}">{}</bdi>', text, Truncator(text).chars(limit))


def shown_id(key: object) -> SafeString:
    """Show the beginning of a UUID, with all of it as the title; a click copies all of it."""
    return format_html(
        '<button type="button" class="seo-gen-id" data-copy-text="{}" title="{}">{}</button>', key, key, str(key)[:8]
    )


def download_link(artifact: Artifact) -> SafeString:
    return as_link(reverse("admin:runs_artifact_download", args=[artifact.pk]), _("Download"))


def replaced_version(artifact: Artifact) -> str | None:
    """Return the version of the step that the file belonged to; None if the file is current."""
    version = artifact.metadata.get("version") if isinstance(artifact.metadata, dict) else None
    return str(version) if version is not None else None
