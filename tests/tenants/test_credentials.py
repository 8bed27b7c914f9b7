import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.db import connection, models
from django.utils.timezone import now
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from config.site.sign_in.models import SecondFactor
from tenants.credentials import decrypt, encrypt, mask_url
from tenants.errors import EncryptionKeyError
from tenants.lifecycle.rotate_keys import credentials_rotate, encrypted_fields
from tenants.models import DatabaseServer, Tenant

SECRET = "postgresql://role:p%40ss@db.example:5433/name?sslmode=require"


def test_what_was_encrypted_is_read_back_and_never_twice_the_same() -> None:
    assert decrypt(encrypt(SECRET)) == SECRET
    assert encrypt(SECRET) != encrypt(SECRET)


def test_a_new_first_key_still_reads_what_the_old_one_wrote(settings: Settings) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [old]
    stored = encrypt(SECRET)
    settings.ENCRYPTION_KEYS = [new, old]
    assert decrypt(stored) == SECRET
    settings.ENCRYPTION_KEYS = [new]
    with pytest.raises(EncryptionKeyError, match="SEO_GEN_ENCRYPTION_KEYS") as refusal:
        decrypt(stored)
    assert stored not in str(refusal.value)


def test_a_row_written_by_plain_sql_is_read_as_it_stands() -> None:
    assert decrypt(SECRET) == SECRET


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (SECRET, "postgresql://role:****@db.example:5433/name?sslmode=require"),
        ("postgresql://db.example/name", "postgresql://db.example/name"),
        ("postgresql://role@db.example/name", "postgresql://role@db.example/name"),
        ("postgresql://h/n?password=x", "postgresql://h/n?****"),
    ],
)
def test_a_shown_url_holds_no_password(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_the_database_never_sees_a_credential(tenant: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT database_url FROM tenants WHERE id = %s", [tenant.id])
        stored = cursor.fetchone()[0]
        cursor.execute("SELECT admin_url FROM database_servers")
        servers = [row[0] for row in cursor.fetchall()]
    assert stored.startswith("fernet:") and all(value.startswith("fernet:") for value in servers)
    assert Tenant.objects.get(pk=tenant.pk).database_url.startswith("postgresql://")
    assert "****@" in tenant.masked_url
    assert "****@" in DatabaseServer.objects.get(pk="main").masked_url


def test_rotation_writes_every_credential_with_the_first_key(tenant: Tenant, staff: User, settings: Settings) -> None:
    SecondFactor.objects.create(user=staff, secret="JBSWY3DPEHPK3PXP", confirmed_at=now(), last_step=0)
    old, new = settings.ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    url = tenant.database_url
    settings.ENCRYPTION_KEYS = [new, old]
    rotated = credentials_rotate()
    settings.ENCRYPTION_KEYS = [new]
    credentials = stored_credentials()
    assert {model for model, value in credentials} >= {DatabaseServer, SecondFactor, Tenant}
    assert rotated == len(credentials)
    assert (SecondFactor, "JBSWY3DPEHPK3PXP") in credentials
    assert Tenant.objects.get(pk=tenant.pk).database_url == url
    assert ControlAuditLog.objects.order_by("-id")[0].action == "control.rotate"
    settings.ENCRYPTION_KEYS = [old]
    with pytest.raises(EncryptionKeyError):
        credentials_rotate()
    settings.ENCRYPTION_KEYS = [old, new]
    credentials_rotate()


def stored_credentials() -> list[tuple[type[models.Model], str]]:
    """Return every credential in the control database with its model, decrypted with the configured keys."""
    return [
        (model, value)
        for model, fields in encrypted_fields()
        for row in model._base_manager.all()
        for value in (getattr(row, field) for field in fields)
        if value
    ]


def test_a_failed_rotation_changes_nothing(tenant: Tenant, settings: Settings) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT database_url FROM tenants ORDER BY id")
        before = cursor.fetchall()
        settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(EncryptionKeyError):
            credentials_rotate()
        cursor.execute("SELECT database_url FROM tenants ORDER BY id")
        assert cursor.fetchall() == before
