from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.verification.log_check import LogReport, in_each
from audit.verification.verify import audit_verify
from config.base.command import OperatorCommand, Refusal
from config.base.output import print_table
from tenants.presentation import show_progress


class Command(OperatorCommand):
    help = "Check audit logs for tampering: chains, guards, anchors and archives; exit 1 if anything is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--all", action="store_true", help="The control log, all tenants' logs, and archived logs.")
        which.add_argument("--tenant-id", metavar="ID", help="The control log, and this tenant's live or archived log.")
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        self.reports = audit_verify(tenant_id=options["tenant_id"], on_progress=show_progress)
        return {"logs": [asdict(report) for report in self.reports]}

    def present(self, document: Any) -> None:
        columns = [_("log"), _("tenant"), _("entries"), _("anchors"), _("last good anchor"), _("result")]
        rows = [
            (
                report["log"],
                report["tenant_id"],
                report["entries"],
                report["anchors"],
                _anchor(report["last_good_anchor"]),
                _found(len(report["problems"])),
            )
            for report in document["logs"]
        ]
        print_table(columns, rows)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        lines = [
            _("%(log)s: %(problem)s") % {"log": _name(report), "problem": problem.message}
            for report, problem in in_each(self.reports)
        ]
        if lines:
            raise Refusal("\n".join([*lines, *_last_good(self.reports)]), code="audit_logs_not_whole")


def _name(report: LogReport) -> str:
    return f"{report.log} {report.tenant_id}".rstrip()


def _found(problems: int) -> str:
    if not problems:
        return _("no problems")
    return ngettext("%(count)d problem", "%(count)d problems", problems) % {"count": problems}


def _anchor(anchor: Any) -> str:
    if not anchor:
        return ""
    return _("entry %(sequence)d, %(time)s") % {
        "sequence": anchor["sequence"],
        "time": f"{localtime(anchor['at']):%Y-%m-%d %H:%M:%S%z}",
    }


def _last_good(reports: list[LogReport]) -> list[str]:
    """Return a line for each log with problems: its last good anchor, or that none is confirmed."""
    lines = []
    for report in reports:
        if report.problems and report.last_good_anchor:
            anchor = _anchor(asdict(report.last_good_anchor))
            lines.append(_("%(log)s: the last good anchor is %(anchor)s.") % {"log": _name(report), "anchor": anchor})
        elif report.problems:
            lines.append(_("%(log)s: no anchor of the log could be confirmed.") % {"log": _name(report)})
    return lines
