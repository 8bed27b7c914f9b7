"""System checks of the configuration and of tenant migrations; their ids are stable."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _

from tenants.errors import EncryptionKeyError


@checks.register()
def owner_is_separate(**kwargs: Any) -> list[checks.CheckMessage]:
    """Warn if no separate owner is configured: the application's role then owns the control database's audit log."""
    if settings.DATABASE_OWNER_URL:
        return []
    return [
        checks.Warning(
            _("DATABASE_OWNER_URL is not set, so the application's role owns the control database's audit log."),
            hint=_(
                "Create a separate role that owns and migrates the database, and set DATABASE_OWNER_URL;"
                " docs/configuration.md shows how."
            ),
            id="tenants.W001",
        )
    ]


@checks.register()
def tenant_migrations_are_transactional(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject tenant migrations that cannot be applied atomically: to all tenants or to none of them."""
    from tenants.schema.releases import label
    from tenants.schema.transactional import untransactional  # imported late: most commands run no checks

    hint = _(
        "Do not set `atomic = False`. Create and drop indexes without CONCURRENTLY (a tenant's tables are small, and a"
        " lock timeout protects busy tenants). Put maintenance such as VACUUM into a separate command."
    )
    return [
        checks.Error(
            _("Tenant migration %(name)s cannot be applied atomically: %(reason)s.")
            % {"name": label(key), "reason": reason},
            hint=hint,
            id="tenants.E002",
        )
        for key, reason in untransactional().items()
    ]


@checks.register()
def keys_are_usable(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject missing and malformed encryption keys."""
    # Imported here, since the module defines a field, and so needs the apps to be loaded.
    from tenants.credentials import require_keys

    try:
        require_keys()
    except EncryptionKeyError as error:
        return [checks.Error(error.message, hint=error.hint, id="tenants.E001")]
    return []
