"""Errors about tenants and servers, worded for operators. A message about one tenant or server names it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError
from django.utils.translation import gettext as _

from config.base.errors import SeoGenError, joined


def bare(reason: str) -> str:
    """Return a sentence without its full stop, for use inside another sentence."""
    return reason.rstrip(".。")


def because(outcome: str, reason: str) -> str:
    """Return two sentences: what failed, and why. Adds a full stop if another program's message lacks one."""
    return joined(outcome, reason if reason.endswith((".", "。")) else f"{reason}.")


def recover_on_page() -> str:
    """Return a hint on how to recover an operation in the admin; only operations that staff requested have a button."""
    return _(
        "If the operation was requested in the admin, “Recover” on its page under “Operations” finishes or undoes it;"
        " otherwise, an operator must run `seo-gen tenant recover`."
    )


class TenantError(SeoGenError):
    """Base class of most errors about tenants, tenants' files and database servers."""


class NoActiveTenant(TenantError):
    """Customer data was accessed outside `tenant_context`; the query never runs on another database instead."""

    code = "tenant_context_missing"

    def __init__(self, subject: str = "") -> None:
        super().__init__(
            _("%(subject)s belongs to a tenant's database, but no tenant is active.") % {"subject": subject}
            if subject
            else _("No tenant is active."),
            hint=_("Wrap the call in tenant_context(tenant)."),
        )


class WrongTenantActive(TenantError):
    """A tenant's connection was used while another tenant was active."""

    code = "tenant_context_wrong"

    def __init__(self, alias: str, active: str) -> None:
        super().__init__(
            _("The connection %(alias)s was used while %(active)s was active.") % {"alias": alias, "active": active},
            hint=_("Keep querysets and objects of one tenant inside its own tenant_context."),
        )


class InvalidTenant(TenantError):
    """A tenant's name or id, or the prefix of our database names, is invalid."""


class TenantExists(TenantError):
    """The id, name or identity is already taken; an id stays taken even after its tenant is erased."""

    code = "tenant_exists"


class UnknownTenant(TenantError):
    code = "tenant_not_found"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("There is no tenant %(id)s.") % {"id": repr(tenant_id)},
            hint=_("`seo-gen tenant list` shows all tenants."),
            page_hint=_("“Tenants” lists the tenants that you may see."),
        )


class AccessNotOpened(TenantError):
    """Temporary access to a tenant was refused."""


class TenantNotActive(TenantError):
    """The tenant exists, but its status does not permit the operation; it may be suspended or deleted, for example."""

    code = "tenant_not_active"

    def __init__(self, tenant_id: str, status: str) -> None:
        # The labels of `TenantStatus`, which cannot be imported here: it is in a layer above this module.
        labels = {
            "provisioning": _("provisioning"),
            "active": _("active"),
            "suspended": _("suspended"),
            "restoring": _("restoring"),
            "deleting": _("deleting"),
            "deleted": _("deleted"),
        }
        hints = {
            "suspended": _("`seo-gen tenant resume --tenant-id %(id)s` makes it active again.") % {"id": tenant_id},
            "deleting": _("`seo-gen tenant recover` continues its deletion."),
            "deleted": _("`seo-gen erasure show --tenant-id %(id)s` shows the certificate.") % {"id": tenant_id},
        }
        page_hints = {
            "suspended": _("“Resume” on its page makes it active again."),
            "deleting": recover_on_page(),
            "deleted": _("“Erasures” has the certificate."),
        }
        super().__init__(
            _("The status of tenant %(id)s is %(status)s.") % {"id": tenant_id, "status": labels.get(status, status)},
            hint=hints.get(status, ""),
            page_hint=page_hints.get(status, ""),
        )
        self.status = status


class InvalidStepLimit(TenantError):
    """A tenant's step limit is not in the permitted range."""

    code = "tenant_limit_invalid"

    def __init__(self, tenant_id: str, steps: int, most: int) -> None:
        super().__init__(
            _("Tenant %(id)s: the step limit must be between 1 and %(most)d, not %(steps)d.")
            % {"id": tenant_id, "most": most, "steps": steps},
            # Only a limit below 1 may have been meant to stop the runs.
            hint=_("To stop its runs altogether, suspend it: `seo-gen tenant suspend --tenant-id %(id)s`.")
            % {"id": tenant_id}
            if steps < 1
            else "",
            page_hint=_("To stop its runs altogether, suspend it: “Suspend” on its page.") if steps < 1 else "",
        )


class InvalidBudget(TenantError):
    """A budget is not a positive amount in the permitted range, or has more than six decimal places."""

    code = "budget_invalid"

    def __init__(self, tenant_id: str, amount: object, most: object) -> None:
        super().__init__(
            _(
                "Tenant %(id)s: a budget must be an amount in USD above 0 and up to %(most)s, with at most six decimal"
                " places, not %(amount)s."
            )
            % {"id": tenant_id, "most": most, "amount": amount},
            hint=_("For no budget, leave the field empty in the admin, or pass `none` on the command line."),
        )


class SettingsChanged(TenantError):
    """The settings have changed since the person who is saving them read them."""

    code = "tenant_settings_changed"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s: these settings were changed in the meantime, so nothing was saved.") % {"id": tenant_id},
            hint=_("Check the current values, then save again."),
        )


class TenantWithoutServer(TenantError):
    """The tenant has no registered server, so its database cannot be opened as the owner (`Tenant.require_server`)."""

    code = "tenant_without_server"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s has no registered server, so its database cannot be opened as the owner.")
            % {"id": tenant_id},
            hint=_("Register its server in the admin, then set server_id in the tenant's row of the control database."),
        )
        self.tenant_id = tenant_id


class TenantBusy(TenantError):
    """Another process is working on this tenant."""

    code = "tenant_busy"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s: another process is working on it.") % {"id": tenant_id},
            hint=_("Wait for it to finish, then try again."),
        )


class JobBusy(TenantError):
    """Another process is running the same job for all tenants; `message` names the job."""

    code = "job_busy"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint=_("Wait for it to finish, then try again."))


class TenantUnfinished(TenantError):
    """An operation on the tenant has not finished, this one or another; it must be finished or undone first."""

    code = "tenant_unfinished"

    def __init__(self, tenant_id: str, operation: str) -> None:
        super().__init__(
            _("Tenant %(id)s: the operation “%(operation)s” has not finished.")
            % {"id": tenant_id, "operation": operation},
            hint=_("If its process is no longer running, run `seo-gen tenant recover` to finish or undo it."),
            page_hint=recover_on_page(),
        )


class FleetBusy(TenantError):
    """Another process holds the fleet's lock, for a batch or for an operation that batches would disturb."""

    code = "fleet_busy"

    def __init__(self) -> None:
        super().__init__(
            _("Another process is running a batch, or an operation that a batch would disturb."),
            hint=_("Wait for it to finish, then try again."),
        )


class FleetUnfinished(TenantError):
    """A batch of tenants is running or was interrupted; prepared transactions may hold locks in their databases."""

    code = "fleet_unfinished"

    def __init__(self, batch_id: object, reason: str = "") -> None:
        super().__init__(
            _("Batch %(id)s did not finish: %(reason)s.") % {"id": batch_id, "reason": reason}
            if reason
            else _("Batch %(id)s has not finished.") % {"id": batch_id},
            hint=_("If its process is no longer running, run `seo-gen tenant recover`."),
        )


class MigrationFailed(TenantError):
    """A batch cannot be applied to a tenant, or its prepared change of that tenant was lost.

    `migration` is "app.name", or "" if none was running.
    """

    code = "migration_failed"

    def __init__(self, tenant_id: str, reason: str, *, migration: str = "", code: str = "") -> None:
        where = _("Tenant %(id)s, migration %(migration)s:") if migration else _("Tenant %(id)s:")
        super().__init__(because(where % {"id": tenant_id, "migration": migration}, reason), code=code)
        self.tenant_id = tenant_id
        self.migration = migration
        self.reason = reason


class BackupFailed(TenantError):
    """A backup or an export of the tenant failed."""

    code = "backup_failed"

    def __init__(self, tenant_id: str, reason: str, *, exported: bool = False, code: str = "") -> None:
        outcome = _("Tenant %(id)s was not exported.") if exported else _("Tenant %(id)s was not backed up.")
        super().__init__(because(outcome % {"id": tenant_id}, reason), code=code)


class RestoreRefused(TenantError):
    """A restore, an undo of a restore, or a clone was refused, or failed and was undone.

    Also raised for an import that was interrupted and undone.
    """

    code = "restore_refused"

    def __init__(
        self,
        tenant_id: str,
        reason: str,
        *,
        created: bool = False,
        hint: str = "",
        page_hint: str = "",
        code: str = "",
    ) -> None:
        """Pass `created` if the tenant was to be created: by a clone, or by an import that was interrupted."""
        outcome = _("Tenant %(id)s was not created.") if created else _("Tenant %(id)s was not restored.")
        unchanged = _("Nothing was left behind.") if created else _("Its database is unchanged.")
        super().__init__(
            because(outcome % {"id": tenant_id}, reason), hint=hint or unchanged, page_hint=page_hint, code=code
        )


class ImportRefused(TenantError):
    """A bundle was not imported: it is damaged, say, or does not fit this installation. Nothing is left behind."""

    code = "import_refused"

    def __init__(self, file: str, reason: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("%(file)s was not imported.") % {"file": file}, reason),
            hint=hint or _("Nothing was left behind."),
            code=code,
        )


class RestoreUnfinished(TenantError):
    """The tenant was restored and works, but clean-up after the restore failed."""

    code = "restore_unfinished"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(
            because(
                _("Tenant %(id)s was restored, but clean-up after the restore failed.") % {"id": tenant_id},
                reason,
            ),
            hint=_("Fix this, then run `seo-gen tenant recover`."),
            page_hint=recover_on_page(),
        )


class TenantUnreachable(TenantError):
    """The tenant's database does not answer, or refuses our login. `reason` is the driver's message."""

    code = "tenant_unreachable"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(
            _("Tenant %(id)s: its database cannot be used: %(reason)s.") % {"id": tenant_id, "reason": reason},
            hint=_("Check the server, then run `seo-gen tenant status --tenant-id %(id)s`.") % {"id": tenant_id},
        )


class TenantLocked(TenantError):
    """A statement timed out while it waited for a lock in the tenant's database."""

    code = "tenant_locked"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(because(_("Tenant %(id)s is busy.") % {"id": tenant_id}, reason))


class TenantIdentityMismatch(TenantError):
    """The database behind the tenant's URL is not the tenant's, or has an identity that cannot be read.

    The connection is refused before any of the database's other data is read.
    """

    code = "tenant_identity_mismatch"

    def __init__(self, tenant_id: str, owner: str | None = None, *, is_tenants: bool = True) -> None:
        """`owner` is the tenant id in the database, or None; pass `is_tenants=False` if the identity is unreadable."""
        super().__init__(
            (
                _(
                    "Tenant %(id)s: the identity of the database behind its URL cannot be read, so the connection was"
                    " refused."
                )
                if not is_tenants
                else _("Tenant %(id)s: the database behind its URL has no identity, so the connection was refused.")
                if owner is None
                else _(
                    "Tenant %(id)s: the database behind its URL belongs to another tenant that has the same id, so the"
                    " connection was refused."
                )
                if owner == tenant_id
                else _(
                    "Tenant %(id)s: the database behind its URL belongs to tenant %(owner)s, so the connection was"
                    " refused."
                )
            )
            % {"id": tenant_id, "owner": owner},
            hint=_("Check the tenant's database URL in the control database."),
        )


class TenantConnectionsExhausted(TenantError):
    code = "tenant_connections_exhausted"

    def __init__(self, alias: str, maximum: int) -> None:
        super().__init__(
            _("%(alias)s: all tenant connections of this process (%(maximum)d) are in use.")
            % {"alias": alias, "maximum": maximum},
            hint=_("Raise TENANT_CONNECTIONS_MAX, or run fewer threads in this process."),
        )


class InvalidDatabaseURL(TenantError):
    """A URL that does not name a PostgreSQL database; the message never repeats it, since it contains a password."""

    code = "tenant_database_url_invalid"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s: its database URL does not name a PostgreSQL database.") % {"id": tenant_id},
            hint=_("Correct the tenant's database URL in the control database."),
        )


class DatabaseUnusable(TenantError):
    """A database connection or statement failed: the server is unreachable, say, or a lock was not granted."""

    code = "database_unusable"

    def __init__(self, reason: str) -> None:
        super().__init__(_("A database connection or statement failed: %(reason)s.") % {"reason": bare(reason)})


class ServerError(TenantError):
    """A database server cannot be used: it may be unknown, full or unreachable, or a privilege may be missing."""


class StorageError(SeoGenError):
    """A file cannot be read, written or removed: the disk is full, say, or S3 is unreachable. A retry may succeed.

    Also raised for an unusable path. Not a `TenantError`: to a worker, that means that the tenant cannot be used now.
    """


class CacheUnavailable(TenantError):
    """The cache does not answer, so what it holds about a tenant is unknown."""

    code = "cache_unreachable"


class DeletionRefused(TenantError):
    """The tenant cannot be erased now; nothing was changed."""

    code = "deletion_refused"

    def __init__(self, tenant_id: str, reason: str, *, hint: str = "", page_hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("Tenant %(id)s was not deleted.") % {"id": tenant_id}, reason),
            hint=hint or _("Nothing was changed."),
            page_hint=page_hint,
            code=code,
        )


class DeletionUnfinished(TenantError):
    """A deletion has started and cannot continue now; the tenant stays closed."""

    code = "deletion_unfinished"

    def __init__(self, tenant_id: str, reason: str, *, hint: str = "", page_hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("Tenant %(id)s is closed, but not deleted yet.") % {"id": tenant_id}, reason),
            hint=hint or _("Fix this, then repeat the command or run `seo-gen tenant recover`."),
            page_hint=page_hint if hint else recover_on_page(),
            code=code,
        )


class ErasedTenant(TenantError):
    """Something was requested that would bring back an erased tenant's data."""

    code = "tenant_erased"

    def __init__(self, tenant_id: str, erased_at: str) -> None:
        """`erased_at` is "" until the erasure is completed."""
        super().__init__(
            _("Tenant %(id)s was erased at %(time)s; its data will not be restored.")
            % {"id": tenant_id, "time": erased_at}
            if erased_at
            else _("Tenant %(id)s is being erased; its data will not be restored.") % {"id": tenant_id},
            hint=_("If you are legally entitled to restore it, pass --from-erased REASON (the reason is logged)."),
        )


class UnknownErasure(TenantError):
    code = "erasure_not_found"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("No erasure of tenant %(id)s is recorded.") % {"id": repr(tenant_id)},
            hint=_("`seo-gen erasure list` shows all erasures."),
            page_hint=_("“Erasures” lists all erasures."),
        )


class EncryptionKeyError(TenantError):
    """The configured keys are missing or invalid, or none of them decrypts a stored credential."""

    code = "encryption_key_missing"


def reason_of(error: BaseException) -> str:
    """Return the first line of the error's message, without the credentials of URLs and without its full stop."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return bare(re.sub(r"//\S*@", "//", first))


def reason_of_disk(error: OSError) -> str:
    """Return the operating system's message, with the path if there is one."""
    reason = error.strerror or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def failure_reason(error: BaseException) -> str:
    """Return a sentence that says why an operation failed, to store in its record. Never quotes an unexpected error."""
    if isinstance(error, SeoGenError):
        return error.message
    if isinstance(error, OSError):
        return _("The disk or a file cannot be used: %(reason)s.") % {"reason": reason_of_disk(error)}
    if isinstance(error, OperationalError):
        return DatabaseUnusable(reason_of(error)).message
    if isinstance(error, Exception):
        return _("Unexpected error (%(name)s).") % {"name": type(error).__name__}
    return _("It was interrupted.")


@contextmanager
def disk_failures_told() -> Iterator[None]:
    """Turn an `OSError` in the block, such as a full disk, into a `TenantError`, which does not name the tenant.

    For files with known names, `tenants.files.locations` gives better messages.
    """
    try:
        yield
    except OSError as error:
        raise TenantError(
            _("The disk or a file cannot be used: %(reason)s.") % {"reason": reason_of_disk(error)},
            hint=_("Check free space and permissions in SEO_GEN_HOME and the temporary folder, then try again."),
            code="disk_unusable",
        ) from error
