"""What can be wrong with a tenant, in words for operators. Every message holds the tenant's or the server's id."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from config.base.errors import SeoGenError


def bare(reason: str) -> str:
    """Return a sentence without its full stop, to be put into another one."""
    return reason.rstrip(".。")


def because(outcome: str, reason: str) -> str:
    """Return two sentences: what did not happen, and why. A reason that another program gave may lack its full stop."""
    return f"{outcome} {reason if reason.endswith(('.', '。')) else reason + '.'}"


class TenantError(SeoGenError):
    """Any refusal or failure that concerns one tenant or the servers they live on."""


class NoActiveTenant(TenantError):
    """Customer data was asked for outside `tenant_context`; never answered from another database."""

    code = "tenant_context_missing"

    def __init__(self, subject: str) -> None:
        super().__init__(
            _("%(subject)s belongs to a tenant's database, but no tenant is active.") % {"subject": subject},
            hint=_("Wrap the call in tenant_context(tenant)."),
        )


class WrongTenantActive(TenantError):
    """A tenant's connection was used while another tenant is active."""

    code = "tenant_context_wrong"

    def __init__(self, alias: str, active: str) -> None:
        super().__init__(
            _("The connection %(alias)s was used while %(active)s is active.") % {"alias": alias, "active": active},
            hint=_("Keep querysets and objects of one tenant inside its own tenant_context."),
        )


class InvalidTenant(TenantError):
    """A name or id that cannot be used."""


class TenantExists(TenantError):
    """The id or name is taken, by a live tenant or by the tombstone of an erased one."""

    code = "tenant_exists"


class UnknownTenant(TenantError):
    code = "tenant_not_found"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("There is no tenant %(id)s.") % {"id": repr(tenant_id)},
            hint=_("`seo-gen tenant list` shows those that exist."),
        )


class TenantNotActive(TenantError):
    """The tenant exists but is suspended, or was deleted."""

    code = "tenant_not_active"

    def __init__(self, tenant_id: str, status: str) -> None:
        hints = {
            "suspended": _("`seo-gen tenant resume --tenant-id %(id)s` makes it active again.") % {"id": tenant_id},
            "deleting": _("`seo-gen tenant recover` goes on with its deletion."),
            "deleted": _("`seo-gen erasure show --tenant-id %(id)s` has the certificate.") % {"id": tenant_id},
        }
        super().__init__(
            _("Tenant %(id)s is %(status)s.") % {"id": tenant_id, "status": status}, hint=hints.get(status, "")
        )


class TenantWithoutServer(TenantError):
    """Nothing can be done in the tenant's database as its owner; `Tenant.require_server` raises it."""

    code = "tenant_without_server"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s is on no registered server, so nobody can enter its database as the owner.")
            % {"id": tenant_id},
            hint=_("Register its server in the admin, and choose it for the tenant."),
        )
        self.tenant_id = tenant_id


class TenantBusy(TenantError):
    """Another process is working on this tenant right now."""

    code = "tenant_busy"

    def __init__(self, tenant_id: str, operation: str) -> None:
        super().__init__(
            _("Tenant %(id)s: another process is at work on it (%(operation)s).")
            % {"id": tenant_id, "operation": operation},
            hint=_("Wait for it to end, then try again."),
        )


class TenantUnfinished(TenantError):
    """An earlier operation was cut off; nothing else may touch the tenant until it is finished or undone."""

    code = "tenant_unfinished"

    def __init__(self, tenant_id: str, operation: str) -> None:
        super().__init__(
            _("Tenant %(id)s: an earlier %(operation)s did not finish.") % {"id": tenant_id, "operation": operation},
            hint=_("Run `seo-gen tenant recover` first."),
        )


class FleetBusy(TenantError):
    """Another process migrates tenants' databases, or creates a tenant, right now."""

    code = "fleet_busy"

    def __init__(self) -> None:
        super().__init__(
            _("Another process is migrating tenants, or creating one."), hint=_("Wait for it to end, then try again.")
        )


class FleetUnfinished(TenantError):
    """A migration of tenants is at work, or was cut off: prepared transactions may hold locks in their databases."""

    code = "fleet_unfinished"

    def __init__(self, batch_id: object, reason: str = "") -> None:
        super().__init__(
            _("The migration batch %(id)s did not finish: %(reason)s.") % {"id": batch_id, "reason": reason}
            if reason
            else _("The migration batch %(id)s is not over.") % {"id": batch_id},
            hint=_("If nobody runs it any more, run `seo-gen tenant recover`."),
        )


class MigrationFailed(TenantError):
    """A tenant stands in the way of its batch: before any change, or while its migrations ran.

    `migration` is "app.name", or "" where none was at work.
    """

    code = "migration_failed"

    def __init__(self, tenant_id: str, reason: str, *, migration: str = "", code: str = "") -> None:
        where = _("Tenant %(id)s, migration %(migration)s:") if migration else _("Tenant %(id)s:")
        super().__init__(because(where % {"id": tenant_id, "migration": migration}, reason), code=code)
        self.tenant_id = tenant_id
        self.migration = migration
        self.reason = reason


class BackupFailed(TenantError):
    """A backup or an export was not made; what there was of it is removed."""

    code = "backup_failed"

    def __init__(self, tenant_id: str, reason: str, *, exported: bool = False, code: str = "") -> None:
        outcome = _("Tenant %(id)s was not exported.") if exported else _("Tenant %(id)s was not backed up.")
        super().__init__(because(outcome % {"id": tenant_id}, reason), code=code)


class RestoreRefused(TenantError):
    """What was to be restored is not whole, or not this tenant's, or the tenant cannot be restored now."""

    code = "restore_refused"

    def __init__(self, tenant_id: str, reason: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("Tenant %(id)s was not restored.") % {"id": tenant_id}, reason),
            hint=hint or _("Its database is as it was."),
            code=code,
        )


class ImportRefused(TenantError):
    """A bundle is damaged, or does not fit this installation; nothing of it is left."""

    code = "import_refused"

    def __init__(self, file: str, reason: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("%(file)s was not imported.") % {"file": file}, reason),
            hint=hint or _("Nothing of it is left."),
            code=code,
        )


class RestoreUnfinished(TenantError):
    """The tenant has its restored database and works; what follows a restore could not be done now."""

    code = "restore_unfinished"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(
            because(
                _("Tenant %(id)s has its restored database, but what follows is not done.") % {"id": tenant_id}, reason
            ),
            hint=_("Mend that, then run `seo-gen tenant recover`."),
        )


class TenantUnreachable(TenantError):
    """The tenant's database does not answer, or refuses our login. `reason` is the driver's first line."""

    code = "tenant_unreachable"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(
            _("Tenant %(id)s: its database cannot be reached: %(reason)s.") % {"id": tenant_id, "reason": reason},
            hint=_("Check the server, then `seo-gen tenant status --tenant-id %(id)s`.") % {"id": tenant_id},
        )


class TenantLocked(TenantError):
    """A table of the tenant's is locked by somebody else, for longer than we wait (DATABASE_LOCK_TIMEOUT_S)."""

    code = "tenant_locked"

    def __init__(self, tenant_id: str, reason: str) -> None:
        super().__init__(_("Tenant %(id)s is busy: %(reason)s.") % {"id": tenant_id, "reason": bare(reason)})


class TenantIdentityMismatch(TenantError):
    """The database behind the tenant's URL is not that tenant's: refused before any row is read."""

    code = "tenant_identity_mismatch"

    def __init__(self, tenant_id: str, found: str) -> None:
        super().__init__(
            _("Tenant %(id)s: the database behind its URL is not its own (%(found)s), so the connection was refused.")
            % {"id": tenant_id, "found": found},
            hint=_("Correct the tenant's database URL."),
        )


class TenantConnectionsExhausted(TenantError):
    code = "tenant_connections_exhausted"

    def __init__(self, alias: str, maximum: int) -> None:
        super().__init__(
            _("%(alias)s: all tenant connections of this process (%(maximum)d) are in use.")
            % {"alias": alias, "maximum": maximum},
            hint=_("Raise TENANT_CONNECTIONS_MAX, or lower the worker's concurrency."),
        )


class InvalidDatabaseURL(TenantError):
    """A URL that does not name a PostgreSQL database; the message never repeats it, for it holds a password."""

    code = "tenant_database_url_invalid"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("Tenant %(id)s: its database URL does not name a PostgreSQL database.") % {"id": tenant_id},
            hint=_("Correct the tenant's database URL."),
        )


class ServerError(TenantError):
    """A database server is unknown, full, unreachable, or its administrator lacks a privilege."""


class StorageError(SeoGenError):
    """A file cannot be written or read now: disk full, permissions, S3 out of reach. Another attempt may succeed.

    Not a `TenantError`, which says that a tenant cannot be used.
    """


class CacheUnavailable(TenantError):
    """The cache does not answer: what it holds of a tenant is unknown."""

    code = "cache_unreachable"


class DeletionRefused(TenantError):
    """The tenant cannot be erased as things are; nothing was begun."""

    code = "deletion_refused"

    def __init__(self, tenant_id: str, reason: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("Tenant %(id)s was not deleted.") % {"id": tenant_id}, reason),
            hint=hint or _("Nothing was changed."),
            code=code,
        )


class DeletionUnfinished(TenantError):
    """A deletion is begun and cannot go on now; the tenant is closed to everybody meanwhile."""

    code = "deletion_unfinished"

    def __init__(self, tenant_id: str, reason: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(
            because(_("Tenant %(id)s is closed, but not deleted yet.") % {"id": tenant_id}, reason),
            hint=hint or _("Mend that, then give the command again, or run `seo-gen tenant recover`."),
            code=code,
        )


class ErasedTenant(TenantError):
    """Somebody asks for the data of a tenant that was erased."""

    code = "tenant_erased"

    def __init__(self, tenant_id: str, erased_at: object) -> None:
        super().__init__(
            _("Tenant %(id)s was erased (%(time)s); its data is not brought back.")
            % {"id": tenant_id, "time": erased_at},
            hint=_("Where that is lawful and wanted nevertheless, give --from-erased with the reason; it is recorded."),
        )


class UnknownErasure(TenantError):
    code = "erasure_not_found"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(
            _("No erasure of a tenant %(id)s is recorded.") % {"id": repr(tenant_id)},
            hint=_("`seo-gen erasure list` shows those that are."),
        )


class EncryptionKeyError(TenantError):
    """No configured key opens a stored credential."""

    code = "encryption_key_missing"


def reason_of(error: BaseException) -> str:
    """Return the driver's first line, which names host, user and database, without anything like a credential."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"//[^@\s]*@", "//", first).rstrip(".")


def reason_of_disk(error: OSError) -> str:
    """Return what the operating system says, with the path where it names one."""
    reason = error.strerror or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


@contextmanager
def disk_failures_told() -> Iterator[None]:
    """Turn what the operating system refuses in the block, such as on a full disk, into a `TenantError`.

    Whoever encloses it says for which tenant. Where a file is known by name its place says more
    (`tenants.files.locations`).
    """
    try:
        yield
    except OSError as error:
        raise TenantError(
            _("The disk or a file cannot be used: %(reason)s.") % {"reason": reason_of_disk(error)},
            hint=_("Make room in SEO_GEN_HOME and the system's temporary folder, then try again."),
            code="disk_unusable",
        ) from error
