"""System checks of the configuration; their ids are stable."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _


@checks.register()
def owner_is_separate(**kwargs: Any) -> list[checks.CheckMessage]:
    """Warn if the application's role owns the control database's tables, including the audit log."""
    if settings.DATABASE_OWNER_URL:
        return []
    return [
        checks.Warning(
            _("DATABASE_OWNER_URL is not set, so the application's role owns the control database's audit log."),
            hint=_("Create a separate role that owns and migrates the database; docs/configuration.md shows how."),
            id="tenants.W001",
        )
    ]


@checks.register()
def tenant_migrations_are_transactional(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject tenant migrations that cannot be applied to all tenants or none."""
    from tenants.schema.releases import label
    from tenants.schema.transactional import untransactional  # imported late: most commands run no checks

    hint = _(
        "Do not set `atomic`. Create indexes and constraints without CONCURRENTLY (a tenant's tables are small, and a"
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
    """Reject keys that could not decrypt any credential."""
    from cryptography.fernet import Fernet

    try:
        for key in settings.ENCRYPTION_KEYS:
            Fernet(key)
    except ValueError:
        problem = _("SEO_GEN_ENCRYPTION_KEYS contains a value that is not a Fernet key.")
    else:
        if settings.ENCRYPTION_KEYS:
            return []
        problem = _("SEO_GEN_ENCRYPTION_KEYS is empty.")
    hint = _("Generate one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'")
    return [checks.Error(problem, hint=hint, id="tenants.E001")]
