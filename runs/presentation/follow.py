"""Follow a run: a table that is redrawn in a terminal, or one line per event elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.core.management.base import OutputWrapper
from django.utils.translation import gettext as _

from runs.models import RunStatus, StepStatus
from runs.presentation.cost import cost_text
from runs.presentation.fallback import rerouted_line
from runs.presentation.tables import marked, retries_text, seconds_text
from runs.presentation.times import clock
from runs.presentation.waiting import waiting_text
from runs.types import RunDocument, StepDocument

if TYPE_CHECKING:
    from rich.console import RenderableType

OnProgress = Callable[[RunDocument], None]


@contextmanager
def live_table() -> Iterator[OnProgress]:
    """Yield a function that draws a document as a table on stdout; remove the table when the block ends or fails."""
    from rich.console import Console  # slow to import, and only people need it
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:

        def redraw(document: RunDocument) -> None:
            live.update(_drawn(document), refresh=True)

        yield redraw


class EventLines:
    """Writes one line for each event since the previous document."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._before: RunDocument | None = None

    def __call__(self, document: RunDocument) -> None:
        for line in run_events(self._before, document):
            self._out.write(line)
        self._out.flush()
        self._before = document


def run_events(before: RunDocument | None, now: RunDocument) -> Iterator[str]:
    """Yield lines for what happened to a run between two documents.

    If `before` is None, that is what happened since the run was created. Only what the documents
    show is known: several failed attempts of a step, for example, have one line.
    """
    if before is None:
        yield _line(now["created_at"], _("run %(id)s of tenant %(tenant_id)s was created") % now)
    earlier = {step["step"]: step for step in before["steps"]} if before else {}
    for step in now["steps"]:
        yield from _step_events(earlier.get(step["step"]), step, now["read_at"])
    if now["waiting"] and _essence(now) != (_essence(before) if before else None):
        yield _line(now["read_at"], waiting_text(now["waiting"], now=now["read_at"]))
    if before is None or before["status"] != now["status"]:
        yield from _end(now)


def _step_events(before: StepDocument | None, step: StepDocument, read_at: str) -> Iterator[str]:
    name, was = step["step"], before["status"] if before else StepStatus.PENDING.value
    if before and step["version"] > before["version"]:
        yield _line(read_at, _("%(step)s: will run again from the start") % step)
        before, was = None, StepStatus.PENDING.value
    failed = step["retry_count"] - (before["retry_count"] if before else 0)
    lost = step["lost_count"] - (before["lost_count"] if before else 0)
    status = step["status"]
    if failed > 0 and status != StepStatus.FAILED:
        reason = {"step": name, "attempt": step["attempt"] - 1, "error": step["error_message"] or "-"}
        yield _line(read_at, _("%(step)s: attempt %(attempt)d failed: %(error)s") % reason)
    line = rerouted_line(step)
    if line and step["rerouted"] != (before["rerouted"] if before else None):
        yield _line(read_at, line)
    if lost > 0:
        yield _line(read_at, _("%(step)s: an attempt was lost with its worker") % step)
    is_started = status == StepStatus.RUNNING and (was != status or failed > 0 or lost > 0)
    if is_started or (was == StepStatus.PENDING and status == StepStatus.COMPLETED):
        first = step["attempt"] == 1 and step["started_at"]
        yield _line(step["started_at"] if first else None, _started(step), read_at)
    if status == was:
        return
    if status == StepStatus.COMPLETED:
        yield _line(step["completed_at"], _completed(step), read_at)
    elif status == StepStatus.FAILED:
        yield _line(read_at, _("%(step)s: failed: %(error)s") % {"step": name, "error": step["error_message"] or "-"})


def _started(step: StepDocument) -> str:
    model = f"{step['llm_provider']}/{step['llm_model']}"
    return _("%(step)s: attempt %(attempt)d started (%(model)s)") % {**step, "model": model}


def _completed(step: StepDocument) -> str:
    usage = step["token_usage"] or {}
    text = _("%(step)s: completed after %(seconds)s s (tokens: %(input)d in, %(output)d out)") % {
        "step": step["step"],
        "seconds": f"{step['seconds'] or 0:.1f}",
        "input": usage.get("input", 0),
        "output": usage.get("output", 0),
    }
    return marked(text, step["is_truncated"])


def _end(document: RunDocument) -> Iterator[str]:
    cost = {"cost": cost_text(document["cost"])}
    match document["status"]:
        case RunStatus.COMPLETED:
            text = marked(_("the run was completed; cost: %(cost)s") % cost, document["is_truncated"])
        case RunStatus.FAILED:
            text = _("the run failed; cost: %(cost)s") % cost
        case RunStatus.PAUSED:
            text = _("the run is paused, so it is no longer followed; cost so far: %(cost)s") % cost
        case _:
            return
    yield _line(document["ended_at"], text, document["read_at"])


def _essence(document: RunDocument) -> tuple[object, ...] | None:
    """Return the fields of a wait whose change counts as a new event; None if the run is not waiting."""
    wait = document["waiting"]
    return (wait["reason"], wait["step"], wait["by"], wait["until"], wait["route"]) if wait else None


def _line(moment: str | None, text: str, otherwise: str = "") -> str:
    return f"{clock(moment or otherwise)}  {text}"


def _drawn(document: RunDocument) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (_("step"), _("status"), _("retries"), _("seconds")):
        table.add_column(column, no_wrap=True)
    table.add_column(_("summary"), overflow="fold")
    for step in document["steps"]:
        texts = (
            step["step"],
            marked(step["status"], step["is_truncated"]),
            retries_text(step),
            seconds_text(step, document["read_at"]),
            step["error_message"] or step["summary"] or "",
        )
        table.add_row(*map(Text, texts))
    lines = [_("Cost: %(cost)s") % {"cost": cost_text(document["cost"])}]
    if document["waiting"]:
        reason = waiting_text(document["waiting"], now=document["read_at"])
        lines.insert(0, _("Why it is waiting: %(reason)s") % {"reason": reason})
    return Group(Text(_("Run %(id)s of tenant %(tenant_id)s: %(status)s") % document), table, *map(Text, lines))
