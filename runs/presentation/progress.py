"""Progress bars for commands that wait for runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from runs.models import StepStatus
from runs.types import RunDocument

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
    """Yield a `RunProgress` for the block; it draws nothing unless stderr is a terminal."""
    from rich.console import Console  # slow to import, and `run show` does not need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        yield RunProgress(progress)


def _headline(document: RunDocument) -> str:
    current = document["current_step"] or ""
    attempt = next((step["attempt"] for step in document["steps"] if step["step"] == current), 1)
    again = _(" (attempt %(n)d)") % {"n": attempt} if attempt > 1 else ""
    return f"{document['tenant_id']}  {current or document['status']}{again}"
