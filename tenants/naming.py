"""Tenant ids, and what their databases, roles and sessions are called."""

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

# How aliases of tenants' databases begin in the settings.
TENANT_PREFIX = "tenant:"

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"
ID_MAX_LENGTH = 41
NAME_MAX_LENGTH = 200
# Ids for names that none can be derived from. Longer numbers are somebody's own choice, and not counted on from.
NUMBERED_PATTERN = r"tenant-([1-9][0-9]{0,8})"
PREFIX_PATTERN = r"^[a-z][a-z0-9_]{0,11}$"


def alias_of(tenant_id: str) -> str:
    """Return the alias of the tenant's database."""
    return TENANT_PREFIX + tenant_id


def clean_name(name: str) -> str:
    """Return `name` normalised (NFC, blanks and invisible characters at its ends gone), or raise `InvalidTenant`."""
    cleaned = strip_invisible(unicodedata.normalize("NFC", name))
    if not cleaned:
        raise InvalidTenant(_("A tenant needs a name."), hint=_("Give one with --name."), code="tenant_name_invalid")
    if len(cleaned) > NAME_MAX_LENGTH:
        raise InvalidTenant(
            _("A tenant's name has at most %(max)d characters; this one has %(count)d.")
            % {"max": NAME_MAX_LENGTH, "count": len(cleaned)},
            code="tenant_name_invalid",
        )
    if has_control_characters(cleaned):
        raise InvalidTenant(
            _("A tenant's name cannot hold control characters: %(name)r.") % {"name": cleaned},
            code="tenant_name_invalid",
        )
    return cleaned


def validate_id(tenant_id: str) -> str:
    """Return `tenant_id` if it is a slug of the specified form, or raise `InvalidTenant`."""
    if not re.fullmatch(ID_PATTERN, tenant_id):
        raise InvalidTenant(
            _("%(id)r is not a tenant id: 1 to 41 of a-z, 0-9 and -, and no - in front.") % {"id": tenant_id[:80]},
            code="tenant_id_invalid",
        )
    return tenant_id


def id_from_name(name: str) -> str | None:
    """Derive the id from the name: "Customer A" → "customer-a". None if the name has too few Latin letters for one.

    An id is for ever, and what would be left of a name in another script says too little; nor does a transliteration
    by machine say what the customer would (the reading of a Japanese name is not in its characters).
    """
    slug = slugify(name).replace("_", "-").strip("-")[:ID_MAX_LENGTH].strip("-")
    return None if not slug or _loses_letters(name) else validate_id(slug)


def numbered_ids(known: Iterable[str]) -> Iterator[str]:
    """Yield "tenant-1", "tenant-2", …, from the first number that is above all of the `known` ids."""
    numbers = (match for tenant_id in known if (match := re.fullmatch(NUMBERED_PATTERN, tenant_id)))
    for number in count(1 + max((int(match[1]) for match in numbers), default=0)):
        yield f"tenant-{number}"


def _loses_letters(name: str) -> bool:
    """Tell whether the name holds letters or digits that no ASCII letter stands for ("é" becomes "e", "客" nothing)."""
    return any(not char.isascii() and char.isalnum() for char in unicodedata.normalize("NFKD", name))


def database_name(prefix: str) -> str:
    """Return a new name, for a tenant's database and its role alike.

    It says nothing of the tenant: whoever may log in to a server, such as another tenant's role, reads the names of all
    its databases and roles. The tenant's row alone knows which is whose.
    """
    if not re.fullmatch(PREFIX_PATTERN, prefix):
        raise InvalidTenant(
            _("TENANT_DATABASE_PREFIX %(prefix)r is not a short identifier.") % {"prefix": prefix},
            code="tenant_database_prefix_invalid",
        )
    return f"{prefix}_{secrets.token_hex(8)}"


def work_name(verb: str, identity: UUID) -> str:
    """Return what our sessions that do something with the tenant of that identity are called (`application_name`).

    Without its id, since other tenants' roles read it in pg_stat_activity; always the same, so that the sessions of a
    killed process can be told.
    """
    return f"{verb} {identity.hex[:12]}"
