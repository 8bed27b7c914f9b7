"""`seo-gen demo`: run the whole product on this machine. `config.cli` stops what the demo started."""

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config import demo, prepare, stack
from config.base.command import OperatorCommand, Refusal
from config.management.commands.stack_start import web_address
from runs.models import RunStatus
from runs.presentation.progress import run_progress
from runs.presentation.tables import failure_text, print_run
from tenants.presentation import show_progress


class Command(OperatorCommand):
    help = "Demonstrate the product: two customers, one article each, and the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="Exit after the report, without serving the admin.")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.succeeded = True
        super().handle(*args, **options)
        if not self.succeeded:
            raise Refusal(_("At least one run did not complete."), code="demo_incomplete")
        if not options["no_serve"]:
            self._serve(sys.stderr if options["json"] else sys.stdout)

    def perform(self, **options: Any) -> dict[str, Any]:
        home = stack.find_home()
        stack.start(home, demo.NEEDED, on_progress=prepare.announce)
        tenants = demo.ensure_tenants(show_progress)
        prepare.announce(_("Writing two articles; this can take a few minutes"))
        with run_progress() as on_progress:
            runs = demo.follow(home, demo.start_runs(), on_progress)
        document = demo.report(tenants, runs)
        self.succeeded = demo.succeeded(document)
        return document

    def present(self, document: dict[str, Any]) -> None:
        for run in document["runs"]:
            self.stdout.write("")
            print_run(run)
            if run["status"] == RunStatus.COMPLETED:
                self.stdout.write(_("Article: %(path)s") % {"path": demo.article_file(run)})
            else:
                self.stderr.write(failure_text(run))

    def _serve(self, out: Any) -> None:
        home = stack.find_home()
        stack.start(home, ["web"], on_progress=prepare.announce)
        login = demo.new_login()
        lines = (
            "",
            _("Admin:    %(address)s") % {"address": web_address(home)},
            _("Login:    %(username)s") % {"username": login.username},
            _("Password: %(password)s") % {"password": login.password},
            _("Press Ctrl-C to stop the demo and every server that it started."),
        )
        print("\n".join(lines), file=out, flush=True)
        demo.serve(home)
