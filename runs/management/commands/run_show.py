from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.management.base import CommandParser

from config.base.command import OperatorCommand, Refusal
from runs.models import RunStatus
from runs.presentation.follow import EventLines, OnProgress, live_table
from runs.presentation.tables import failure_text, print_run
from runs.services.read import run_read
from runs.services.watch import run_follow
from runs.types import RunDocument


class Command(OperatorCommand):
    help = (
        "Show a run: its steps, outputs, artifacts and cost, and why it is waiting."
        " With --follow, keep showing it until it ends or is paused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--run-id", required=True, help="The run's id, as `run list` shows it.")
        parser.add_argument(
            "--follow",
            action="store_true",
            help="Follow the run until it ends or is paused; exit 1 if it failed.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> RunDocument:
        tenant_id, run_id = options["tenant_id"], options["run_id"]
        if not options["follow"]:
            return run_read(tenant_id=tenant_id, run_id=run_id)
        with self._shown(is_json=bool(options["json"])) as on_progress:
            document = run_follow(tenant_id=tenant_id, run_id=run_id, on_progress=on_progress)
        self.failure = failure_text(document) if document["status"] == RunStatus.FAILED else ""
        return document

    def _shown(self, *, is_json: bool) -> AbstractContextManager[OnProgress]:
        """Return a context manager that yields a function to show the run's progress."""
        if is_json:
            return nullcontext(lambda document: None)
        if self.stdout.isatty():
            return live_table()
        self.lines_printed = True
        return nullcontext(EventLines(self.stdout))

    def present(self, document: RunDocument) -> None:
        if not self.lines_printed:
            print_run(document)

    def handle(self, *args: Any, **options: Any) -> None:
        self.failure, self.lines_printed = "", False
        super().handle(*args, **options)
        if self.failure:
            raise Refusal(self.failure, code="run_failed")
