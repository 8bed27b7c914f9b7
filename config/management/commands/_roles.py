"""Code shared by the commands that give a role and take one back."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from config.site.sign_in.emergency import account_named
from tenants.models import Role


def add_role_arguments(parser: CommandParser) -> None:
    parser.add_argument("--username", required=True, help="The person's login name.")
    parser.add_argument("--role", required=True, choices=Role.values, help="What the person may do.")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--tenant-id", help="For this tenant.")
    group.add_argument("--group", metavar="NAME", help="For the tenants of this group, now and later.")
    group.add_argument("--all-tenants", action="store_true", help="For all tenants and for the installation.")


def role_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for `role_grant` and `role_revoke`. Raises `AccountUnsuitable` if there is no account."""
    return {
        "user": account_named(options["username"]),
        "role": options["role"],
        "group": options["group"],
        "tenant_id": options["tenant_id"],
    }


def document_of(options: dict[str, Any], **done: bool) -> dict[str, object]:
    return {"username": options["username"], "role": options["role"], "for": _place(options), **done}


def place_in_words(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the value of "for" in words."""
    kind, _space, name = document["for"].partition(" ")
    words = {
        "all": _("all tenants"),
        "group": _("the group %(name)s") % {"name": name},
        "tenant": _("tenant %(id)s") % {"id": name},
    }
    return {**document, "for": words[kind]}


def _place(options: dict[str, Any]) -> str:
    if options["tenant_id"] is not None:
        return f"tenant {options['tenant_id']}"
    return "all" if options["group"] is None else f"group {options['group']}"
