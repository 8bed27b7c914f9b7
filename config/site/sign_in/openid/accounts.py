"""Find the staff account that belongs to an account at the OpenID provider."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.log.actor import acting_as
from audit.log.entries import record
from config.site.sign_in.models import LinkedIdentity
from config.site.sign_in.openid.errors import OpenIDRefused

SUBJECT_MAX = 255


def account_of(claims: dict[str, Any]) -> User:
    """Return the account that the provider's account is linked to; without a link, link the one that the claims name.

    A superuser's account is never found by name or address: superusers link their accounts themselves. If no account
    has the name in the claims and OIDC_NEW_USERS allows it, a staff account without any role is created. Raises
    `OpenIDRefused`.
    """
    issuer, subject = str(claims["iss"]), str(claims["sub"])
    if len(subject) > SUBJECT_MAX:
        raise _refused("subject")
    linked = LinkedIdentity.objects.using("default").filter(issuer=issuer, subject=subject).first()
    user = linked.user if linked else _found_by_name(claims)
    if not (user.is_active and user.is_staff):
        raise _refused("inactive")
    if linked is None:
        identity_link(user=user, issuer=issuer, subject=subject)
    return user


def identity_link(*, user: User, issuer: str, subject: str) -> None:
    """Link an account to a provider's account; raise `OpenIDRefused` if either already has a link with this issuer."""
    with transaction.atomic(using="default"), acting_as(f"staff:{user.get_username()}"):
        User.objects.using("default").select_for_update().get(pk=user.pk)
        taken = LinkedIdentity.objects.using("default").filter(
            Q(issuer=issuer, subject=subject) | Q(issuer=issuer, user=user)
        )
        if taken.filter(user=user, subject=subject).exists():
            raise OpenIDRefused(
                _("Your account at %(provider)s is already linked to your account here.")
                % {"provider": settings.OIDC_NAME},
                hint=_("You can log in with it."),
                reason="linked already",
            )
        if taken.exists():
            # For example, the address now belongs to another person, whose subject differs.
            raise _refused("linked otherwise")
        LinkedIdentity.objects.using("default").create(
            user=user, issuer=issuer, subject=subject, linked_at=timezone.now()
        )
        record(
            using="default",
            action="openid.link",
            resource_type="user",
            resource_id=str(user.pk),
            details={"issuer": issuer},
        )


def _found_by_name(claims: dict[str, Any]) -> User:
    name = _name(claims)
    users = User.objects.using("default")
    by_email = Q(email__iexact=name) if settings.OIDC_USERNAME_CLAIM == "email" else Q()
    found = list(users.filter(Q(username=name) | by_email)[:2]) if by_email else list(users.filter(username=name))
    if len(found) > 1:
        raise _refused("ambiguous")
    if not found:
        return _created(name, claims)
    if found[0].is_superuser:
        raise _refused("superuser")
    return found[0]


def _name(claims: dict[str, Any]) -> str:
    """Return the name, or the e-mail address, by which to find the account.

    Raises `OpenIDRefused` if the claims have no name, if OIDC_USERNAME_CLAIM is "email" and the address is not
    verified, or if OIDC_ALLOWED_DOMAINS is set and the claims have no verified address in one of these domains.
    """
    name = claims.get(settings.OIDC_USERNAME_CLAIM)
    if not isinstance(name, str) or not name.strip():
        raise _refused("no name")
    email, is_verified = claims.get("email"), claims.get("email_verified") is True
    if settings.OIDC_USERNAME_CLAIM == "email" and not is_verified:
        raise _refused("email not verified")
    if settings.OIDC_ALLOWED_DOMAINS:
        domain = str(email).rpartition("@")[2].lower() if is_verified else ""
        if domain not in settings.OIDC_ALLOWED_DOMAINS:
            raise _refused("domain")
    return name.strip()


def _created(name: str, claims: dict[str, Any]) -> User:
    if settings.OIDC_NEW_USERS != "create":
        raise _refused("unknown")
    email = str(claims.get("email", "")) if claims.get("email_verified") is True else ""
    user = User(username=name, email=email, is_staff=True)
    user.set_unusable_password()
    try:
        user.full_clean()
    except ValidationError as error:
        raise _refused("name") from error
    with transaction.atomic(using="default"), acting_as(f"staff:{name}"):
        user.save(using="default")
        record(
            using="default",
            action="user.create",
            resource_type="user",
            resource_id=str(user.pk),
            details={"by": "openid"},
        )
    return user


def _refused(reason: str) -> OpenIDRefused:
    """Return an error with the same sentence for every reason: the page must not reveal which accounts exist."""
    return OpenIDRefused(
        _("Your account at %(provider)s cannot be used here.") % {"provider": settings.OIDC_NAME},
        hint=_("Ask an administrator."),
        reason=reason,
    )
