from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from config.base.command import OperatorCommand
from tenants.lifecycle.limit import tenant_limit_set

DEFAULT = "default"


class Command(OperatorCommand):
    help = "Set how many of a tenant's steps may run at a time, across all workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant-id", required=True, help="The tenant's id, as `tenant list` shows it.")
        parser.add_argument(
            "--steps",
            required=True,
            type=_steps,
            metavar="N",
            help="The number of steps, at least 1, or `default` for RUN_TENANT_CONCURRENCY.",
        )
        super().add_arguments(parser)

    def perform(self, **options: Any) -> Any:
        steps = None if options["steps"] == DEFAULT else options["steps"]
        tenant = tenant_limit_set(tenant_id=options["tenant_id"], steps=steps)
        return {
            "id": tenant.id,
            "max_concurrent_steps": tenant.max_concurrent_steps,
            "default": settings.RUN_TENANT_CONCURRENCY,
        }

    def present(self, document: Any) -> None:
        steps = document["max_concurrent_steps"]
        if steps is None:
            text = ngettext(
                "Tenant %(id)s has the default limit: %(default)d step at a time.",
                "Tenant %(id)s has the default limit: %(default)d steps at a time.",
                document["default"],
            )
        else:
            text = ngettext(
                "Tenant %(id)s runs at most %(max_concurrent_steps)d step at a time.",
                "Tenant %(id)s runs at most %(max_concurrent_steps)d steps at a time.",
                steps,
            )
        self.stdout.write(text % document)


def _steps(text: str) -> int | str:
    if text == DEFAULT:
        return DEFAULT
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(_("%(text)r is neither a whole number nor `default`") % {"text": text[:80]}) from None
