"""What the control database knows about sign-ins. No row holds a password, a session's key, or a typed name."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from config.base.times import to_minute
from tenants.credentials import EncryptedTextField


class StaffSession(models.Model):
    """A login of one person in one browser. Django's session holds this row's id; `ended_at` makes it invalid."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="staff_sessions")
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    # "" if the client has no address, as on a Unix socket.
    address = models.CharField(max_length=45, blank=True)
    browser = models.CharField(max_length=200, blank=True)
    is_verified = models.BooleanField(default=False)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=20, blank=True)

    class Meta:
        db_table = "staff_sessions"
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        default_permissions = ()
        permissions = [("manage_sign_ins", "Can end others' sessions, unlock logins and reset second factors")]
        indexes = [models.Index(fields=["user", "ended_at"], name="staff_sessions_user")]

    def __str__(self) -> str:
        return to_minute(self.opened_at)


class FailedLogins(models.Model):
    """Recent failed logins from an address: with one name, or with any name if `name_digest` is empty."""

    # A keyed digest of the typed name, because people sometimes type their password into the wrong field.
    name_digest = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=45)
    failures = models.PositiveIntegerField(default=0)
    since = models.DateTimeField()
    locked_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "failed_logins"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["name_digest", "address"], name="failed_logins_key")]


class SecondFactor(models.Model):
    """The authenticator app of one person (TOTP, RFC 6238)."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="second_factor")
    secret = EncryptedTextField()
    confirmed_at = models.DateTimeField()
    # The time step of the last accepted code: neither it nor an earlier one is accepted again.
    last_step = models.BigIntegerField()
    failures = models.PositiveIntegerField(default=0)
    locked_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "second_factors"
        verbose_name = _("second factor")
        verbose_name_plural = _("second factors")
        default_permissions = ()


class RecoveryCode(models.Model):
    """A code that replaces the authenticator app once. With 80 random bits, it needs no slow or salted digest."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "recovery_codes"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["factor", "digest"], name="recovery_codes_key")]


class LinkedIdentity(models.Model):
    """The account of a person at the OpenID provider: a subject, which its issuer never gives to anyone else."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="linked_identities")
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)
    linked_at = models.DateTimeField()

    class Meta:
        db_table = "linked_identities"
        verbose_name = _("linked identity")
        verbose_name_plural = _("linked identities")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="linked_identities_key")]


class PasswordPermit(models.Model):
    """Allows one superuser to use a password for a while although PASSWORD_LOGIN is off."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="password_permit")
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "password_permits"
        default_permissions = ()
