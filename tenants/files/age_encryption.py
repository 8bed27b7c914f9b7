"""Encrypt backups to an age recipient (https://age-encryption.org/v1), so that storage providers cannot read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyrage
from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import TenantError
from tenants.files.streams import copy_stream, piped

# The first bytes of every age file.
MAGIC = b"age-encryption.org/v1"
SUFFIX = ".age"
# How a private key begins.
PRIVATE = "AGE-SECRET-KEY-"


class SealError(TenantError):
    """An age recipient or age identity cannot be used, or a file cannot be decrypted with the age identity."""


def recipient_for(given: str | None) -> str:
    """Return the recipient (public key) to encrypt to: `given` or, if that is None, the one in the settings.

    "" means that nothing is encrypted. Raises `SealError` if the recipient is invalid.
    """
    recipient = settings.BACKUP_AGE_RECIPIENT if given is None else given
    if recipient:
        _recipient(recipient)
    return str(recipient)


def seal(source: IO[bytes], target: IO[bytes], recipient: str) -> None:
    """Copy `source` to `target`, encrypted if `recipient` is not ""."""
    if recipient:
        pyrage.encrypt_io(source, target, [_recipient(recipient)])
    else:
        copy_stream(source, target)


@contextmanager
def unsealed(source: IO[bytes], age_identity_file: str | None) -> Iterator[IO[bytes]]:
    """Yield the decrypted `source`, using the age identity (private key) in the given file, or in the configured one.

    Raises `SealError` if there is no usable age identity, or if the source is damaged or was encrypted to another
    recipient.
    """
    identities = _identities(age_identity_file or settings.BACKUP_AGE_IDENTITY_FILE)

    def decrypt(target: IO[bytes]) -> None:
        try:
            pyrage.decrypt_io(source, target, identities)
        except pyrage.DecryptError as error:
            raise SealError(
                _("The file cannot be decrypted: %(reason)s.") % {"reason": _first_line(error)},
                code="backup_not_decryptable",
            ) from error

    with piped(decrypt) as stream:
        yield stream


def age_identity_require(age_identity_file: str | None, *, needed: bool = False) -> None:
    """Raise `SealError` if the age identity file cannot be used: the given one, or the configured one if `needed`."""
    path = age_identity_file or (settings.BACKUP_AGE_IDENTITY_FILE if needed else None)
    if (path or needed) and not _identities(path or ""):
        raise _no_identity(path or "")


def is_sealed(beginning: bytes) -> bool:
    return beginning.startswith(MAGIC)


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        if PRIVATE in text.upper():
            raise SealError(
                _("A private key was given as the age recipient."),
                hint=_("Use its public key, which starts with age1; `age-keygen -y FILE` prints it."),
                code="age_recipient_invalid",
            ) from error
        raise SealError(
            _("%(recipient)r is not a valid age recipient.") % {"recipient": text[:80]},
            hint=_("An age recipient starts with age1; `age-keygen` creates a key pair."),
            code="age_recipient_invalid",
        ) from error


def _identities(path: str) -> list[pyrage.x25519.Identity]:
    if not path:
        raise SealError(
            _("The file is encrypted, and no age identity was given to decrypt it."),
            hint=_("Pass the age identity's file with --age-identity-file, or set BACKUP_AGE_IDENTITY_FILE."),
            code="age_identity_missing",
        )
    try:
        lines = Path(path).expanduser().read_text().splitlines()
        return [pyrage.x25519.Identity.from_str(line.strip()) for line in lines if line.startswith(PRIVATE)]
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        raise _no_identity(path, getattr(error, "strerror", None)) from error


def _no_identity(path: str, reason: str | None = None) -> SealError:
    # Never quote the file's contents, which may be a key.
    if reason:
        message = _("The age identity file %(path)s cannot be used: %(reason)s.") % {"path": path, "reason": reason}
    else:
        message = _("%(path)s is not a valid age identity file.") % {"path": path}
    return SealError(message, code="age_identity_invalid")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
