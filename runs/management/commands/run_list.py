from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand
from runs.models import RunStatus
from runs.presentation import print_runs
from runs.selectors import run_list, run_summary
from runs.types import RunSummary
from tenants.routing.context import tenant_context

DEFAULT_LIMIT = 50


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise ArgumentTypeError(_("must be a number from 1 to 1000000"))
    return int(text)


class Command(OperatorCommand):
    help = "List a tenant's runs, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument("--status", choices=RunStatus.values, help="Only runs with this status.")
        parser.add_argument(
            "--limit", type=_positive, default=DEFAULT_LIMIT, help="Maximum number of runs (default: 50)."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> list[RunSummary]:
        tenant_id = options["tenant_id"]
        with tenant_context(tenant_id) as alias:
            runs = run_list(alias=alias, status=options["status"], limit=options["limit"])
            return [run_summary(tenant_id=tenant_id, run=run) for run in runs]

    def present(self, document: list[RunSummary]) -> None:
        if document:
            print_runs(document)
        else:
            self.stdout.write(_("No runs found. Start one with `seo-gen run create`."))
