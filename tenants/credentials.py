"""Credentials at rest: encrypted with the first of `ENCRYPTION_KEYS`, decrypted with any of them."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.utils.translation import gettext as _

from tenants.errors import EncryptionKeyError

# Marks encrypted values, so that a plaintext value written by SQL can still be read (the next rotation encrypts it).
MARK = "fernet:"
MASK = "****"


def encrypt(value: str) -> str:
    return MARK + _keys().encrypt(value.encode()).decode()


def decrypt(stored: str) -> str:
    """Return the plaintext; raise `EncryptionKeyError` if no configured key can decrypt the stored value.

    A value without `MARK` is plaintext, and is returned as it is.
    """
    if not stored.startswith(MARK):
        return stored
    try:
        return _keys().decrypt(stored.removeprefix(MARK).encode()).decode()
    except InvalidToken as error:
        raise EncryptionKeyError(
            _("A stored credential cannot be decrypted with any key in SEO_GEN_ENCRYPTION_KEYS."),
            hint=_("Add the key that it was encrypted with."),
        ) from error


def mask_url(url: str) -> str:
    """Return `url` with its password, and its query if that contains a password, replaced by ****."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, _password = credentials.partition(":")
    netloc = f"{user}{colon}{MASK if colon else ''}{at}{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=MASK if "password" in parts.query else parts.query))


def require_keys() -> None:
    """Raise `EncryptionKeyError` unless there is at least one key, and all keys are valid."""
    _keys()


def _keys() -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in settings.ENCRYPTION_KEYS])
    except ValueError:
        # The cause describes base64, which tells an operator nothing.
        raise EncryptionKeyError(
            _("SEO_GEN_ENCRYPTION_KEYS contains a value that is not a Fernet key.")
            if settings.ENCRYPTION_KEYS
            else _("SEO_GEN_ENCRYPTION_KEYS is empty."),
            hint=_(
                "Set it to Fernet keys, separated by commas. For a new installation, generate one: "
                "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
            ),
            code="encryption_keys_invalid",
        ) from None


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """A TEXT column that is encrypted in the database. Not searchable: the same value encrypts differently each time.

    Lookups could only compare ciphertext, which is useful only to an attacker, so all lookups except `isnull` raise.
    """

    # The admin rejects URL filters on fields with this set to False (`config.site.admin_base`).
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
