from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.base.command import OperatorCommand, Refusal
from runs.config import MAX_CONFIG_BYTES, RunConfig, config_from_text
from runs.errors import InvalidRunConfig
from runs.messages.sending import require_worker
from runs.models import RunStatus
from runs.presentation.progress import run_progress
from runs.presentation.tables import failure_text, print_run
from runs.selectors import run_document
from runs.services.create import run_create
from runs.services.watch import run_watch
from runs.types import RunDocument


class Command(OperatorCommand):
    help = "Start a run, which writes an article; with --wait, wait until it ends or is paused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument(
            "--config",
            required=True,
            metavar="JSON_OR_@FILE",
            help='The configuration, such as \'{"keyword": "coffee grinder", "language": "en"}\', or @FILE.',
        )
        parser.add_argument("--hold", action="store_true", help="Create the run paused; `run resume` starts it.")
        parser.add_argument(
            "--wait", action="store_true", help="Wait until the run ends or is paused; exit 1 if it failed."
        )
        super().add_arguments(parser)

    def check_options(self, options: Mapping[str, Any]) -> None:
        super().check_options(options)
        if options.get("hold") and options.get("wait"):
            raise Refusal(
                _("--hold and --wait cannot be used together: a run on hold does not start by itself."),
                code="options_conflict",
            )

    def perform(self, **options: Any) -> RunDocument:
        config = _read_config(options["config"])
        if options["wait"]:
            require_worker()
        run = run_create(tenant_id=options["tenant_id"], config=config, hold=options["hold"])
        if not options["wait"]:
            return run_document(tenant_id=options["tenant_id"], run_id=run.pk)
        with run_progress() as on_progress:
            document = run_watch(tenant_id=options["tenant_id"], run_id=run.pk, on_progress=on_progress)
        self.failure = failure_text(document) if document["status"] == RunStatus.FAILED else ""
        return document

    def present(self, document: RunDocument) -> None:
        if document["status"] == RunStatus.PENDING:
            self.stdout.write(
                _(
                    "Run %(id)s was created. To follow it:"
                    " `seo-gen run show --tenant-id %(tenant_id)s --run-id %(id)s --follow`."
                )
                % document
            )
        elif document["status"] == RunStatus.PAUSED:
            self.stdout.write(
                _(
                    "Run %(id)s is paused. To let it continue, use"
                    " `seo-gen run resume --tenant-id %(tenant_id)s --run-id %(id)s`, or `seo-gen run approve` if it is"
                    " waiting for a review. If it has reached a budget, raise that budget first."
                )
                % document
            )
        else:
            print_run(document)

    def handle(self, *args: Any, **options: Any) -> None:
        self.failure = ""
        super().handle(*args, **options)
        if self.failure:
            raise Refusal(self.failure, code="run_failed")


def _read_config(text: str) -> RunConfig:
    """Return the configuration in the argument, or in the file named after a leading @. Raises `InvalidRunConfig`."""
    if not text.startswith("@"):
        return config_from_text(text)
    path = Path(text[1:])
    try:
        with path.open("rb") as file:
            # A larger file is rejected without reading all of it.
            content = file.read(MAX_CONFIG_BYTES + len(BOM_UTF8) + 1).removeprefix(BOM_UTF8)
        # The end of a larger file may be half a character; only its size matters.
        return config_from_text(content.decode(errors="strict" if len(content) <= MAX_CONFIG_BYTES else "replace"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else _("it is not UTF-8 text")
        raise InvalidRunConfig(
            _("The configuration file %(path)s cannot be read: %(reason)s.") % {"path": path, "reason": reason}
        ) from error
