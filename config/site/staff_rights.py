"""What a staff member may change about another: nothing that grants more than they have themselves.

Django lets anyone with `auth.change_user` become a superuser, set a superuser's password, or grant any permission. Here
only a superuser may do that; everyone else is limited to what their own permissions cover.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Exists, OuterRef, Q, QuerySet

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


def is_superuser(user: User | AnonymousUser) -> bool:
    return user.is_active and user.is_superuser


def permissions_of(user: User | AnonymousUser) -> QuerySet[Permission]:
    """Return a user's permissions, including their groups', whether or not the user is active."""
    return Permission.objects.using("default").filter(Q(user=user.pk) | Q(group__user=user.pk)).distinct()


def permissions_to_give(user: User | AnonymousUser) -> QuerySet[Permission]:
    return Permission.objects.using("default").all() if is_superuser(user) else permissions_of(user)


def groups_to_give(user: User | AnonymousUser) -> QuerySet[Group]:
    """Return the groups that grant nothing the user lacks."""
    groups = Group.objects.using("default").all()
    if is_superuser(user):
        return groups
    more = Group.permissions.through.objects.filter(group_id=OuterRef("pk")).exclude(
        permission_id__in=permissions_of(user).values("pk")
    )
    return groups.exclude(Exists(more))


def may_manage_user(user: User | AnonymousUser, other: User) -> bool:
    """Return whether `user` may change, delete or set the password of `other`, who must not have more rights.

    Anyone who sets a password can log in with it, so permissions count, too, not only the superuser flag. The rows are
    read again, since a form in validation has already modified `other`.
    """
    if is_superuser(user):
        return True
    if User.objects.using("default").filter(pk=other.pk, is_superuser=True).exists():
        return False
    return not permissions_of(other).exclude(pk__in=permissions_of(user).values("pk")).exists()


def may_manage_group(user: User | AnonymousUser, group: Group) -> bool:
    return groups_to_give(user).filter(pk=group.pk).exists()
