from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import ngettext

from runs.management.commands._control import RunsCommand
from runs.models import Run
from runs.services.bulk import runs_count
from runs.services.cancel import run_cancel
from runs.services.transition import CANCEL, Transition
from runs.types import RunsReport


class Command(RunsCommand):
    help = "End runs before they are completed; calls in progress are abandoned."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--confirm", action="store_true", help="With --all: do not ask.")

    def perform(self, **options: Any) -> RunsReport:
        if options["all"]:
            tenant_id = options["tenant_id"]
            count = runs_count(tenant_id=tenant_id, transition=CANCEL, status=options["status"])
            consequence = ngettext(
                "%(n)d run of tenant %(id)s will be cancelled.", "%(n)d runs of tenant %(id)s will be cancelled.", count
            ) % {"n": count, "id": tenant_id}
            # Without a run to cancel, there is nothing to confirm.
            self.confirm(tenant_id, consequence, confirmed=options["confirm"] or not count)
        return super().perform(**options)

    def change(self, tenant_id: str, run_id: str, options: Mapping[str, Any]) -> Run:
        return run_cancel(tenant_id=tenant_id, run_id=run_id)

    def transition(self, options: Mapping[str, Any]) -> Transition:
        return CANCEL
