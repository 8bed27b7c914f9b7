"""The base class of the commands that pause, resume, retry, cancel and approve runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from runs.models import Run, RunStatus
from runs.services.bulk import runs_change, runs_change_all
from runs.services.transition import Transition
from runs.types import RunOutcome, RunsReport


class RunsCommand(OperatorCommand):
    """Changes the named runs or, with --all, those whose state allows it.

    If only one run is named and it is refused, the command fails with that refusal. Otherwise, each refusal is
    reported, and if there was any, the command exits 1 after the last run.
    """

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        """Change one run by calling the service, and return it."""
        raise NotImplementedError

    def transition(self, options: Mapping[str, Any]) -> Transition:
        """Return the transition that the options ask for; it says which states allow the change."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "--run-id", nargs="+", action="extend", metavar="ID", help="The ids of the runs, as `run list` shows them."
        )
        which.add_argument("--all", action="store_true", help="All runs of the tenant whose state allows it.")
        parser.add_argument("--status", choices=RunStatus.values, help="With --all: only runs with this status.")
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("status") and not options.get("all"):
            raise Refusal(_("--status needs --all."), code="options_conflict")

    def handle(self, *args: Any, **options: Any) -> None:
        self.refused = self.considered = 0
        super().handle(*args, **options)
        if self.refused:
            raise Refusal(
                _("Refused runs: %(n)d of %(count)d.") % {"n": self.refused, "count": self.considered},
                code="runs_refused",
            )

    def perform(self, **options: Any) -> RunsReport:
        report = self._report(options["tenant_id"], options)
        self.refused, self.considered = report["refused"], len(report["runs"])
        return report

    def present(self, document: RunsReport) -> None:
        if document["runs"]:
            rows = [(run["run_id"], run["status"] or _("refused"), run["message"] or "") for run in document["runs"]]
            print_table([_("id"), _("status"), _("reason")], rows)
        if not document["runs"] and not document["skipped"]:
            self.stdout.write(_("There are no runs to change."))
        if document["skipped"]:
            self.stdout.write(
                ngettext(
                    "%(n)d run was skipped, since its state does not allow the change.",
                    "%(n)d runs were skipped, since their state does not allow the change.",
                    document["skipped"],
                )
                % {"n": document["skipped"]}
            )

    def _report(self, tenant_id: str, options: Mapping[str, Any]) -> RunsReport:
        def change(run_id: str) -> Run:
            return self.change(tenant_id, run_id, options)

        if options["all"]:
            return runs_change_all(
                tenant_id=tenant_id, change=change, transition=self.transition(options), status=options["status"]
            )
        if len(options["run_id"]) > 1:
            return runs_change(tenant_id=tenant_id, change=change, run_ids=options["run_id"])
        run = change(options["run_id"][0])
        done = RunOutcome(run_id=str(run.pk), outcome="done", status=run.status, code=None, message=None)
        return RunsReport(tenant_id=tenant_id, runs=[done], done=1, refused=0, skipped=0)
