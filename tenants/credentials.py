"""Credentials at rest: encrypted with the first of `ENCRYPTION_KEYS`, readable with any of them."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.utils.translation import gettext as _

from tenants.errors import EncryptionKeyError

# Marks what we encrypted, so that a row written by plain SQL is still read (and encrypted at the next rotation).
MARK = "fernet:"
MASK = "****"


def encrypt(value: str) -> str:
    return MARK + _keys().encrypt(value.encode()).decode()


def decrypt(stored: str) -> str:
    """Return the clear value; raise `EncryptionKeyError` where no configured key opens it."""
    if not stored.startswith(MARK):
        return stored
    try:
        return _keys().decrypt(stored.removeprefix(MARK).encode()).decode()
    except InvalidToken as error:
        raise EncryptionKeyError(
            _("A stored credential cannot be decrypted with any key in SEO_GEN_ENCRYPTION_KEYS."),
            hint=_("Add the key that it was written with."),
        ) from error


def mask_url(url: str) -> str:
    """Return `url` with its password, and anything secret in its query, replaced by ****."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, _password = credentials.partition(":")
    netloc = f"{user}{colon}{MASK if colon else ''}{at}{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=MASK if "password" in parts.query else parts.query))


def _keys() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """`TEXT` that the database only ever sees encrypted. Not searchable: a value encrypts differently each time.

    So a lookup could compare ciphertext alone, which is no use but to whoever guesses at it: all but `isnull` raise.
    """

    # The admin refuses filters by address on fields that say so (`config.site.admin_base`).
    searchable = False

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def get_transform(self, lookup_name: str) -> Any:
        return None

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return encrypt(value) if isinstance(value, str) and value else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return decrypt(value) if isinstance(value, str) else value
