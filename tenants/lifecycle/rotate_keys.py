"""Re-encrypt every stored credential with the first configured key, so that older keys can be removed."""

from collections.abc import Iterator

from django.apps import apps
from django.db import models, transaction

from audit.log.entries import record
from config.base.databases import CONTROL
from tenants.credentials import EncryptedTextField


def credentials_rotate() -> int:
    """Re-encrypt the credentials of servers, tenants and staff; return the number of credentials.

    All or nothing: one transaction, with the rows locked. Raises `EncryptionKeyError` if no configured key can decrypt
    one of them.
    """
    with transaction.atomic(using=CONTROL):
        count = sum(_rotate(model, fields) for model, fields in encrypted_fields())
        record(
            using=CONTROL,
            action="control.rotate",
            resource_type="credentials",
            resource_id="all",
            details={"count": count},
        )
    return count


def encrypted_fields() -> Iterator[tuple[type[models.Model], list[str]]]:
    """Yield each model that stores encrypted values, with the names of the fields. All are in the control database."""
    for model in apps.get_models():
        names = [field.attname for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
        if names:
            yield model, names


def _rotate(model: type[models.Model], fields: list[str]) -> int:
    count = 0
    for row in model._base_manager.using(CONTROL).select_for_update(of=("self",)):
        row.save(using=CONTROL, update_fields=fields)
        # An empty value is not encrypted.
        count += sum(bool(getattr(row, name)) for name in fields)
    return count
