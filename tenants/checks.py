"""System checks of the configuration; their ids are stable."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.utils.translation import gettext as _

from config.base.approvals import KINDS
from tenants.errors import EncryptionKeyError


@checks.register()
def owner_is_separate(**kwargs: Any) -> list[checks.CheckMessage]:
    """Warn if no separate owner is configured: the application's role then owns the control database's audit log."""
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
def tenants_may_run(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject a default step limit below 1, which would keep tenants from running anything."""
    steps = settings.RUN_TENANT_CONCURRENCY
    if steps >= 1:
        return []
    hint = _("To stop a tenant's runs, suspend the tenant.")
    return [
        checks.Error(
            _("RUN_TENANT_CONCURRENCY is %(steps)d, but must be at least 1.") % {"steps": steps},
            hint=hint,
            id="tenants.E003",
        )
    ]


@checks.register()
def budgets_warn_in_time(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject a threshold for budget warnings that is not above 0 and at most 100 percent."""
    percent = settings.BUDGET_WARNING_PERCENT
    if 0 < percent <= 100:
        return []
    return [
        checks.Error(
            _("BUDGET_WARNING_PERCENT is %(percent)s; it must be above 0 and at most 100.") % {"percent": percent},
            id="tenants.E004",
        )
    ]


@checks.register()
def second_people_are_asked_for_what_exists(**kwargs: Any) -> list[checks.CheckMessage]:
    """Reject unknown kinds in TWO_PERSON_OPERATIONS: if a kind is misspelled, its operation needs no approval."""
    unknown = sorted(set(settings.TWO_PERSON_OPERATIONS) - set(KINDS))
    if not unknown:
        return []
    return [
        checks.Error(
            _("Unknown in TWO_PERSON_OPERATIONS: %(unknown)s. Known operations: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(KINDS)},
            id="tenants.E005",
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
