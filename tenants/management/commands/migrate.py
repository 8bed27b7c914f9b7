from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import connections
from django.utils.translation import gettext as _

from config.base.command import Refusal
from config.base.databases import CONTROL
from tenants.routing.active import is_tenant_database

OWNER = "control-owner"


class Command(DjangoCommand):
    """Django's `migrate`, for the control database only; uses DATABASE_OWNER_URL if that is set."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        for action in parser._actions:
            if action.dest == "database":
                # Django's choices exclude tenants' aliases, which deserve a better error message.
                action.choices = None
                action.metavar = "{" + ",".join(connections) + "}"

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Refuse a tenant's or an unknown database, before Django's checks look it up."""
        if is_tenant_database(options["database"]):
            raise Refusal(
                _(
                    "%(alias)s is a tenant's database: `migrate` changes the control database only. Use"
                    " `seo-gen tenant migrate` instead."
                )
                % {"alias": options["database"]},
                code="database_is_a_tenants",
            )
        if options["database"] not in connections:
            raise Refusal(
                _("There is no database %(alias)r.") % {"alias": options["database"]}, code="database_not_found"
            )
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"] != CONTROL or not settings.DATABASE_OWNER_URL:
            super().handle(*args, **options)
            return
        options["database"] = OWNER
        try:
            super().handle(*args, **options)
        finally:
            connections[OWNER].close()
