from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoCommand
from django.db import connections
from django.utils.translation import gettext as _

from tenants.active import is_tenant_database
from tenants.router import CONTROL

OWNER = "control-owner"


class Command(DjangoCommand):
    """Django's `migrate`, for the control database alone, as the role that owns it."""

    def handle(self, *args: Any, **options: Any) -> None:
        if is_tenant_database(options["database"]):
            raise CommandError(
                _(
                    "%(alias)s is a tenant's database: `migrate` changes the control database only. Tenants are"
                    " migrated by `seo-gen tenant migrate`, all of them or none."
                )
                % {"alias": options["database"]}
            )
        if options["database"] != CONTROL or not settings.DATABASE_OWNER_URL:
            super().handle(*args, **options)
            return
        options["database"] = OWNER
        try:
            super().handle(*args, **options)
        finally:
            connections[OWNER].close()
