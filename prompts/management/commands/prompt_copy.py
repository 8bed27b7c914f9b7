from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import Refusal
from config.base.output import print_table
from prompts.fleet.copy import prompt_copy
from prompts.fleet.undo import prompt_copy_undo
from prompts.management.commands._given import PromptCommand, add_version
from tenants.presentation import batch_progress

# Error codes by outcome.
CODES = {
    "completed": "tenants_not_changed",
    "rolled_back": "prompt_copy_rolled_back",
    "unfinished": "prompt_copy_unfinished",
}


class Command(PromptCommand):
    help = "Copy a tenant's prompts to other tenants and activate them there, all or nothing; or undo such a copy."

    asks_second_person = True

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--from", dest="source", metavar="ID", help="The tenant whose prompts are copied.")
        which.add_argument(
            "--undo", metavar="BATCH", help="Return each tenant to the versions that it had before this copy."
        )
        to = parser.add_mutually_exclusive_group()
        to.add_argument("--to", nargs="+", action="extend", metavar="ID", help="The tenants to copy to.")
        to.add_argument("--all", action="store_true", help="Every other tenant, suspended ones included.")
        parser.add_argument(
            "--step", nargs="+", action="extend", default=[], help="Only the prompts of these steps; all unless given."
        )
        add_version(parser, "With one step: this version instead of the active one.")
        parser.add_argument("--dry-run", action="store_true", help="Show each tenant's difference; change nothing.")
        super().add_arguments(parser)

    def needs_second_person(self, options: Mapping[str, Any]) -> bool:
        return bool(options.get("all")) and not options.get("dry_run")

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options.get("to") and (options.get("approval") or options.get("request_approval")):
            raise Refusal(
                _("An approval is for a copy to all other tenants, so it cannot be combined with --to."),
                hint=_("Pass --all instead of --to."),
                code="options_conflict",
            )
        super().check_options(options)
        has_target = bool(options.get("to") or options.get("all"))
        if options.get("source") and not has_target:
            raise Refusal(_("--from needs --to or --all."), code="options_conflict")
        chosen = has_target or options.get("step") or options.get("version_number") or options.get("dry_run")
        if options.get("undo") and chosen:
            raise Refusal(
                _(
                    "--undo undoes the whole copy, so it cannot be combined with --to, --all, --step, --version or"
                    " --dry-run."
                ),
                code="options_conflict",
            )

    def perform(self, **options: Any) -> Any:
        with batch_progress() as on_progress:
            if options["undo"]:
                self.report = prompt_copy_undo(batch_id=options["undo"], on_progress=on_progress)
            else:
                self.report = prompt_copy(
                    from_tenant_id=options["source"],
                    tenant_ids=None if options["all"] else options["to"],
                    steps=options["step"],
                    version=options["version_number"],
                    dry_run=options["dry_run"],
                    on_progress=on_progress,
                )
        return asdict(self.report)

    def present(self, document: Any) -> None:
        if document["outcome"] != "completed":
            return
        if document["dry_run"]:
            for one in document["differences"]:
                self.stdout.write(_("Tenant %(tenant_id)s, step %(step)s:") % one)
                self.stdout.write(one["diff"])
            done = ngettext(
                "Dry run: %(pending_count)d of %(tenant_count)d tenant would change. Nothing has changed.",
                "Dry run: %(pending_count)d of %(tenant_count)d tenants would change. Nothing has changed.",
                document["tenant_count"],
            )
            self.stdout.write(done % document)
            return
        if document["differences"]:
            rows = [
                (one["tenant_id"], one["step"], _version(one["before"]), _version(one["after"]))
                for one in document["differences"]
            ]
            print_table([_("tenant"), _("step"), _("version before"), _("version now")], rows)
        done = ngettext(
            "Changed: %(pending_count)d of %(tenant_count)d tenant (batch %(batch_id)s).",
            "Changed: %(pending_count)d of %(tenant_count)d tenants (batch %(batch_id)s).",
            document["tenant_count"],
        )
        # Each problem of a completed batch is a tenant whose change someone else has rolled back.
        changed = document["pending_count"] - len(document["problems"])
        self.stdout.write(done % {**document, "pending_count": changed})

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        report = self.report
        if report.outcome == "completed" and not report.problems:
            return
        states = {
            "completed": ngettext(
                "This tenant was not changed:", "These tenants were not changed:", len(report.problems)
            ),
            "rolled_back": _("No tenant was changed."),
            "unfinished": _("Batch %(id)s has not finished: fix the problems below, then run `seo-gen tenant recover`.")
            % {"id": report.batch_id},
        }
        raise Refusal("\n".join([states[report.outcome], *report.problems]), code=CODES[report.outcome])


def _version(version: int | None) -> str:
    return _("none") if version is None else f"v{version}"
