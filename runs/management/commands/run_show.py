from typing import Any

from django.core.management.base import CommandParser

from config.base.command import OperatorCommand
from runs.presentation import print_run
from runs.services.read import run_read
from runs.types import RunDocument


class Command(OperatorCommand):
    help = "Show a run: its steps (model, tokens, seconds, retries), its artifacts (path, digest) and its cost."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--run-id", required=True, help="The run's id, as `run list` shows it.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> RunDocument:
        return run_read(tenant_id=options["tenant_id"], run_id=options["run_id"])

    def present(self, document: RunDocument) -> None:
        print_run(document)
