from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from runs.models import RunStatus
from runs.presentation.tables import print_runs
from runs.selectors import run_list, run_list_all_tenants
from runs.types import ListedRun
from tenants.routing.context import tenant_context

DEFAULT_LIMIT = 50


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise ArgumentTypeError(_("must be a whole number from 1 to 1000000"))
    return int(text)


class Command(OperatorCommand):
    help = "List the runs of a tenant, newest first, or of all tenants, most recently changed first."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant-id", help="The tenant's id, as `tenant list` shows it.")
        which.add_argument(
            "--all-tenants", action="store_true", help="All tenants, from the control database, without inputs."
        )
        parser.add_argument(
            "--status", choices=RunStatus.values, nargs="+", default=[], help="Only runs with one of these statuses."
        )
        parser.add_argument(
            "--series-id", metavar="ID", help="Only the tenant's runs that were started together under this id."
        )
        parser.add_argument(
            "--limit", type=_positive, default=DEFAULT_LIMIT, help="Maximum number of runs (default: 50)."
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> list[ListedRun]:
        narrowed: Mapping[str, Any] = {"statuses": options["status"], "limit": options["limit"]}
        if options["all_tenants"]:
            if options["series_id"]:
                raise Refusal(_("--series-id needs --tenant-id."), code="options_conflict")
            return run_list_all_tenants(**narrowed)
        with tenant_context(options["tenant_id"]) as alias:
            return run_list(alias=alias, tenant_id=options["tenant_id"], series_id=options["series_id"], **narrowed)

    def present(self, document: list[ListedRun]) -> None:
        if document:
            print_runs(document, all_tenants=self.is_about_all)
        elif self.is_filtered:
            self.stdout.write(_("No runs match."))
        else:
            self.stdout.write(_("No runs found. Start one with `seo-gen run create`."))

    def handle(self, *args: Any, **options: Any) -> None:
        self.is_about_all = bool(options["all_tenants"])
        self.is_filtered = bool(options["status"] or options["series_id"])
        super().handle(*args, **options)
