"""Tenant ids, and what their databases, roles and sessions are called."""

import re
import secrets
import unicodedata
from uuid import UUID

from django.utils.text import slugify
from django.utils.translation import gettext as _

from tenants.errors import InvalidTenant

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"
ID_MAX_LENGTH = 41
NAME_MAX_LENGTH = 200
PREFIX_PATTERN = r"^[a-z][a-z0-9_]{0,11}$"


def clean_name(name: str) -> str:
    """Return `name` normalised (NFC, outer blanks gone), or raise `InvalidTenant`."""
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not cleaned:
        raise InvalidTenant(_("A tenant needs a name."), hint=_("Give one with --name."))
    if len(cleaned) > NAME_MAX_LENGTH:
        raise InvalidTenant(
            _("A tenant's name has at most %(max)d characters; this one has %(count)d.")
            % {"max": NAME_MAX_LENGTH, "count": len(cleaned)}
        )
    if not cleaned.isprintable():
        raise InvalidTenant(_("A tenant's name cannot hold control characters: %(name)r.") % {"name": cleaned})
    return cleaned


def validate_id(tenant_id: str) -> str:
    """Return `tenant_id` if it is a slug of the specified form, or raise `InvalidTenant`."""
    if not re.fullmatch(ID_PATTERN, tenant_id):
        raise InvalidTenant(
            _("%(id)r is not a tenant id: 1 to 41 of a-z, 0-9 and -, and no - in front.") % {"id": tenant_id[:80]}
        )
    return tenant_id


def id_from_name(name: str) -> str:
    """Derive the id from the name: "Customer A" → "customer-a".

    A name with letters of another script needs an id to be given: it is for ever, and what would be left of such a
    name says too little.
    """
    slug = slugify(name).replace("_", "-").strip("-")[:ID_MAX_LENGTH].strip("-")
    if not slug or _loses_letters(name):
        raise InvalidTenant(
            _("No id can be derived from the name %(name)r.") % {"name": name[:80]},
            hint=_("Give one with --id, for example --id customer-a."),
        )
    return validate_id(slug)


def _loses_letters(name: str) -> bool:
    """Tell whether the name holds letters or digits that no ASCII letter stands for ("é" becomes "e", "客" nothing)."""
    return any(not char.isascii() and char.isalnum() for char in unicodedata.normalize("NFKD", name))


def database_name(prefix: str) -> str:
    """Return a new name, for a tenant's database and its role alike.

    It says nothing of the tenant: whoever may log in to a server, such as another tenant's role, reads the names of all
    its databases and roles. The tenant's row alone knows which is whose.
    """
    if not re.fullmatch(PREFIX_PATTERN, prefix):
        raise InvalidTenant(_("TENANT_DATABASE_PREFIX %(prefix)r is not a short identifier.") % {"prefix": prefix})
    return f"{prefix}_{secrets.token_hex(8)}"


def work_name(verb: str, identity: UUID) -> str:
    """Return what our sessions that do something with the tenant of that identity are called (`application_name`).

    Without its id, since other tenants' roles read it in pg_stat_activity; always the same, so that the sessions of a
    killed process can be told.
    """
    return f"{verb} {identity.hex[:12]}"
