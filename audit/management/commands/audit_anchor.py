from dataclasses import asdict
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import ngettext

from audit.verification.anchor import audit_anchor
from config.base.command import OperatorCommand, Refusal


class Command(OperatorCommand):
    help = "Record where audit logs end, so that later changes are detected; exit 1 if there is any problem."

    def perform(self, **options: Any) -> Any:
        self.report = audit_anchor()
        return asdict(self.report)

    def present(self, document: Any) -> None:
        self.stdout.write(
            ngettext(
                "Anchored %(anchors)d of %(logs)d audit log at %(time)s.",
                "Anchored %(anchors)d of %(logs)d audit logs at %(time)s; unchanged logs are skipped.",
                document["logs"],
            )
            % {
                "anchors": document["anchors"],
                "logs": document["logs"],
                "time": f"{localtime(document['at']):%Y-%m-%d %H:%M:%S%z}",
            }
        )
        if document["document"]:
            self.stdout.write("{place}/{name}".format(**document["document"]))

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.report.problems:
            raise Refusal("\n".join(self.report.problems), code="audit_logs_not_anchored")
