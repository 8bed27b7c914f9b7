"""Who may do what for which tenants: roles, groups of tenants, and tenants that are open to someone for an hour."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from config.base.fields import SqlNow
from tenants.models.tenants import Tenant


class Role(models.TextChoices):
    """The roles that staff can have; `tenants.access.roles` says what each of them may do."""

    VIEWER = "viewer", _("viewer")
    EDITOR = "editor", _("editor")
    REVIEWER = "reviewer", _("reviewer")
    OPERATOR = "operator", _("operator")
    ADMINISTRATOR = "administrator", _("administrator")


class RoleScope(models.TextChoices):
    ALL = "all", _("all tenants")
    GROUP = "group", _("a group of tenants")
    TENANT = "tenant", _("one tenant")


class TenantGroup(models.Model):
    """Tenants for which roles are given together, such as the tenants of one team."""

    name = models.TextField(_("name"), unique=True)
    tenants = models.ManyToManyField(Tenant, verbose_name=_("tenants"), related_name="groups", blank=True)

    class Meta:
        db_table = "tenant_groups"
        verbose_name = _("group of tenants")
        verbose_name_plural = _("groups of tenants")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoleAssignment(models.Model):
    """A role that a member of staff has for all tenants, for a group of them, or for one."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="role_assignments"
    )
    role = models.TextField(_("role"), choices=Role)
    scope = models.TextField(_("for"), choices=RoleScope)
    group = models.ForeignKey(
        TenantGroup, verbose_name=_("group of tenants"), null=True, blank=True, on_delete=models.PROTECT
    )
    tenant = models.ForeignKey(Tenant, verbose_name=_("tenant"), null=True, blank=True, on_delete=models.CASCADE)

    class Meta:
        db_table = "role_assignments"
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="role_assignments_role_is_known"),
            models.CheckConstraint(
                condition=(
                    Q(scope="all", group=None, tenant=None)
                    | Q(scope="group", group__isnull=False, tenant=None)
                    | Q(scope="tenant", group=None, tenant__isnull=False)
                ),
                name="role_assignments_scope_is_one",
            ),
            models.UniqueConstraint(
                fields=["user", "role", "scope", "group", "tenant"],
                nulls_distinct=False,
                name="role_assignments_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()}: {self.place}"

    @property
    def place(self) -> str:
        """Return in words which tenants the role is for."""
        if self.scope == RoleScope.GROUP:
            return str(self.group)
        return self.tenant_id or str(RoleScope.ALL.label)


class TemporaryAccess(models.Model):
    """An hour's access to a tenant for someone without a role for it; both audit logs hold the reason."""

    # The name outlives the account.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="temporary_access"
    )
    user_name = models.TextField(_("user"))
    tenant = models.ForeignKey(Tenant, verbose_name=_("tenant"), on_delete=models.CASCADE)
    role = models.TextField(_("role"), choices=Role)
    reason = models.TextField(_("reason"))
    opened_at = models.DateTimeField(_("opened"), db_default=SqlNow())
    expires_at = models.DateTimeField(_("open until"))
    # Set once both audit logs have the entry: before that, and after `closed_at` or `expires_at`, nothing is open.
    recorded_at = models.DateTimeField(null=True, editable=False)
    closed_at = models.DateTimeField(_("closed"), null=True)

    class Meta:
        db_table = "temporary_access"
        verbose_name = _("temporary access")
        verbose_name_plural = _("periods of temporary access")
        ordering = ["-opened_at"]
        constraints = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="temporary_access_role_is_known"),
            models.CheckConstraint(
                condition=Q(expires_at__gt=models.F("opened_at")), name="temporary_access_ends_after_it_began"
            ),
        ]
        indexes = [models.Index(fields=["user", "expires_at"], name="temporary_access_of_user")]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.user_name}"
