"""How commands show runs: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.utils.dateparse import parse_datetime
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.output import print_table
from runs.models import StepStatus
from runs.types import CostDocument, RunDocument, RunSummary, StepDocument

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class RunProgress:
    """One bar per run: the number of completed steps, and the current step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, document: RunDocument) -> None:
        key = document["id"]
        if key not in self._bars:
            self._bars[key] = self._progress.add_task("", total=len(document["steps"]))
        done = sum(step["status"] == StepStatus.COMPLETED for step in document["steps"])
        self._progress.update(self._bars[key], completed=done, description=_headline(document))


@contextmanager
def run_progress() -> Iterator[RunProgress]:
    """Show progress bars while the block runs, if stderr is a terminal."""
    from rich.console import Console  # slow to import, and `run show` does not need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        yield RunProgress(progress)


def print_run(document: RunDocument) -> None:
    """Print a run's steps, artifacts and cost on stdout."""
    print(_("Run %(id)s of tenant %(tenant_id)s: %(status)s") % document)
    columns = [_("step"), _("status"), _("model"), _("tokens in/out"), _("seconds"), _("retries"), _("summary")]
    print_table(columns, [_step_row(step) for step in document["steps"]])
    if document["artifacts"]:
        print()
        rows = [(artifact["file_path"], artifact["digest"] or "") for artifact in document["artifacts"]]
        print_table([_("artifact"), "sha256"], rows)
    print()
    print(_("Cost: %(cost)s") % {"cost": cost_text(document["cost"])})


def print_runs(summaries: list[RunSummary]) -> None:
    """Print a list of runs on stdout."""
    rows = [
        (run["id"], run["status"], run["current_step"] or "", run["keyword"] or "", _local(run["created_at"]))
        for run in summaries
    ]
    print_table([_("id"), _("status"), _("current step"), _("keyword"), _("created")], rows)


def cost_text(cost: CostDocument) -> str:
    """Describe a run's cost; an unknown price is shown as unknown, never as 0."""
    tokens = ngettext(
        "%(input)d token in, %(output)d out", "%(input)d tokens in, %(output)d out", cost["total_input_tokens"] or 0
    ) % {
        "input": cost["total_input_tokens"] or 0,
        "output": cost["total_output_tokens"] or 0,
    }
    known = cost["total_llm_cost"]
    if known is None:
        return _("unknown (%(tokens)s)") % {"tokens": tokens}
    amount = f"USD {known:.6f}"
    if cost["unpriced_steps"]:
        unpriced = ngettext(
            "%(n)d step without a known price", "%(n)d steps without a known price", cost["unpriced_steps"]
        ) % {"n": cost["unpriced_steps"]}
        return _("at least %(amount)s (%(tokens)s; %(unpriced)s)") % {
            "amount": amount,
            "tokens": tokens,
            "unpriced": unpriced,
        }
    return f"{amount} ({tokens})"


def failure_text(document: RunDocument) -> str:
    """Return one sentence that says why a run failed."""
    failed = next((step for step in document["steps"] if step["status"] == StepStatus.FAILED), None)
    return _("Run %(run)s of tenant %(tenant)s failed in step %(step)s: %(reason)s") % {
        "run": document["id"],
        "tenant": document["tenant_id"],
        "step": failed["step"] if failed else "-",
        "reason": (failed["error_message"] if failed else None) or "-",
    }


def _headline(document: RunDocument) -> str:
    current = document["current_step"] or ""
    retries = next((step["retry_count"] for step in document["steps"] if step["step"] == current), 0)
    again = _(" (attempt %(n)d)") % {"n": retries + 1} if retries else ""
    return f"{document['tenant_id']}  {current or document['status']}{again}"


def _step_row(step: StepDocument) -> tuple[object, ...]:
    usage = step["token_usage"]
    return (
        step["step"],
        step["status"],
        f"{step['llm_provider']}/{step['llm_model']}",
        f"{usage.get('input', 0)}/{usage.get('output', 0)}" if usage else "",
        "" if step["seconds"] is None else f"{step['seconds']:.1f}",
        step["retry_count"],
        step["error_message"] or step["summary"] or "",
    )


def _local(moment: str) -> str:
    parsed = parse_datetime(moment)
    return f"{localtime(parsed):%Y-%m-%d %H:%M}" if parsed else moment
