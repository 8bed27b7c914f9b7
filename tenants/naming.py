"""Tenant ids and names, and the names of tenants' databases, roles and sessions."""

import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import count
from uuid import UUID

from django.utils.text import slugify
from django.utils.translation import gettext as _

from config.base.text import has_control_characters, strip_invisible
from tenants.errors import InvalidTenant

# The prefix of tenants' database aliases in the settings.
TENANT_PREFIX = "tenant:"

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"
ID_MAX_LENGTH = 41
NAME_MAX_LENGTH = 200
# Ids for names that yield none. Longer numbers were chosen by a person, so numbering does not continue from them.
NUMBERED_PATTERN = r"tenant-([1-9][0-9]{0,8})"
PREFIX_PATTERN = r"^[a-z][a-z0-9_]{0,11}$"


def owner_role(prefix: str) -> str:
    """Return the role that owns all tenants' tables, and that prepares the transactions of batches."""
    return f"{prefix}_owner"


def alias_of(tenant_id: str) -> str:
    """Return the alias of the tenant's database."""
    return TENANT_PREFIX + tenant_id


def clean_name(name: str) -> str:
    """Return `name` in NFC, with whitespace and invisible characters trimmed from both ends.

    Raises `InvalidTenant` if the result is empty, too long or contains control characters.
    """
    cleaned = strip_invisible(unicodedata.normalize("NFC", name))
    if not cleaned:
        raise InvalidTenant(_("A tenant needs a name."), hint=_("Pass one with --name."), code="tenant_name_invalid")
    if len(cleaned) > NAME_MAX_LENGTH:
        raise InvalidTenant(
            _("A tenant's name can have at most %(max)d characters; this one has %(count)d.")
            % {"max": NAME_MAX_LENGTH, "count": len(cleaned)},
            code="tenant_name_invalid",
        )
    if has_control_characters(cleaned):
        raise InvalidTenant(
            _("A tenant's name cannot contain control characters: %(name)r.") % {"name": cleaned},
            code="tenant_name_invalid",
        )
    return cleaned


def copied_name(name: str, end: str = "") -> str:
    """Return the name of a tenant that is made from another one: that tenant's name, cut to leave room, then `end`.

    Raises `InvalidTenant` if the result is not a valid name.
    """
    return clean_name(unicodedata.normalize("NFC", name)[: NAME_MAX_LENGTH - len(end)].rstrip() + end)


def validate_id(tenant_id: str) -> str:
    """Return `tenant_id` if it is valid; otherwise raise `InvalidTenant`."""
    if not re.fullmatch(ID_PATTERN, tenant_id):
        raise InvalidTenant(
            _("%(id)r is not a tenant id: use 1 to 41 characters from a-z, 0-9 and -, and do not start with -.")
            % {"id": tenant_id[:80]},
            code="tenant_id_invalid",
        )
    return tenant_id


def id_from_name(name: str) -> str | None:
    """Return the id for a name, such as "customer-a" for "Customer A", cut to the maximum length.

    Returns None if a letter or digit has no ASCII form, or if nothing is left: an id is permanent, and the few Latin
    letters of a name in another script say too little. Automatic transliteration does not help: the reading of a
    Japanese name does not follow from its characters.
    """
    slug = slugify(name).replace("_", "-").strip("-")[:ID_MAX_LENGTH].strip("-")
    return None if not slug or _loses_letters(name) else validate_id(slug)


def numbered_ids(known: Iterable[str]) -> Iterator[str]:
    """Yield "tenant-1", "tenant-2", …, starting after the highest number among the `known` ids."""
    numbers = (match for tenant_id in known if (match := re.fullmatch(NUMBERED_PATTERN, tenant_id)))
    for number in count(1 + max((int(match[1]) for match in numbers), default=0)):
        yield f"tenant-{number}"


def _loses_letters(name: str) -> bool:
    """Return whether the name has letters or digits without an ASCII form ("é" becomes "e", "客" nothing)."""
    return any(not char.isascii() and char.isalnum() for char in unicodedata.normalize("NFKD", name))


def database_name(prefix: str) -> str:
    """Return a new name, used for both a tenant's database and its role.

    It reveals nothing about the tenant: anyone who can log in to a server, such as another tenant's role, can read the
    names of all its databases and roles. Only the control database, and the tenant's database itself, record whose they
    are. Raises `InvalidTenant` if the prefix is invalid.
    """
    if not re.fullmatch(PREFIX_PATTERN, prefix):
        raise InvalidTenant(
            _(
                "TENANT_DATABASE_PREFIX is %(prefix)r. It must be 1 to 12 characters from a-z, 0-9 and _, and start"
                " with a letter."
            )
            % {"prefix": prefix},
            code="tenant_database_prefix_invalid",
        )
    return f"{prefix}_{secrets.token_hex(8)}"


def work_name(verb: str, identity: UUID) -> str:
    """Return a name for the work `verb` on the tenant with that identity; it becomes part of `application_name`.

    The name omits the tenant's id, since other tenants' roles can read the name in pg_stat_activity. It is the same
    each time, so that the sessions of a killed process can be found.
    """
    return f"{verb} {identity.hex[:12]}"
