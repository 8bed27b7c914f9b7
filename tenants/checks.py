"""System checks of the configuration; ids are stable."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _


@checks.register()
def owner_is_separate(**kwargs: Any) -> list[checks.CheckMessage]:
    """Warn where the application's own role owns the control database's tables, the audit log among them."""
    if settings.DATABASE_OWNER_URL:
        return []
    return [
        checks.Warning(
            _("DATABASE_OWNER_URL is not set, so the application's role owns the control database's audit log."),
            hint=_("Create a role that owns the database and only migrates it; docs/configuration.md shows how."),
            id="tenants.W001",
        )
    ]


@checks.register()
def tenant_migrations_are_transactional(**kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse tenant migrations that cannot be applied to every tenant or none."""
    from tenants.schema.releases import label
    from tenants.schema.transactional import untransactional  # commands register checks, and run none

    hint = _(
        "Leave `atomic` as it is; create indexes and constraints the plain way (a tenant's tables are small, and a lock"
        " timeout keeps a busy one from waiting); put maintenance such as VACUUM into a command of its own."
    )
    return [
        checks.Error(
            _("Tenant migration %(name)s cannot be applied all or nothing: %(reason)s.")
            % {"name": label(key), "reason": reason},
            hint=hint,
            id="tenants.E002",
        )
        for key, reason in untransactional().items()
    ]


@checks.register()
def keys_are_usable(**kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse keys that could not decrypt a single credential."""
    from cryptography.fernet import Fernet

    try:
        for key in settings.ENCRYPTION_KEYS:
            Fernet(key)
    except ValueError:
        problem = _("SEO_GEN_ENCRYPTION_KEYS holds a value that is no Fernet key.")
    else:
        if settings.ENCRYPTION_KEYS:
            return []
        problem = _("SEO_GEN_ENCRYPTION_KEYS is empty.")
    hint = _("Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'")
    return [checks.Error(problem, hint=hint, id="tenants.E001")]
