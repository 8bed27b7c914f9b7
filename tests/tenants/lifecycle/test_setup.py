"""What `control setup` checks, and what it records about migrations and the main server."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.checks import Error
from django.core.management import call_command

from audit.control.models import ControlAuditLog
from tenants.checks import keys_are_usable
from tenants.errors import EncryptionKeyError
from tenants.lifecycle.setup import MAIN_SERVER, control_setup
from tenants.models import DatabaseServer
from tests.support.program import seo_gen

NO_KEY = "SEO_GEN_ENCRYPTION_KEYS contains a value that is not a Fernet key."
TO_GENERATE = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


def test_wal_archive_is_stored_unless_set(settings: Any) -> None:
    server = DatabaseServer.objects.filter(pk=MAIN_SERVER)
    server.update(wal_archive="")
    # Other tests change this server too, and no one can remove their entries.
    before = ControlAuditLog.objects.order_by("-id").values_list("id", flat=True)[0]
    try:
        for archive in ("s3://archive/main", "s3://archive/other"):
            settings.TENANT_SERVER_WAL_ARCHIVE = archive
            control_setup()
            assert server.get().wal_archive == "s3://archive/main"
        entries = ControlAuditLog.objects.filter(action="server.change", resource_id=MAIN_SERVER, id__gt=before)
        assert [entry.details for entry in entries if entry.details] == [{"wal_archive": "s3://archive/main"}]
    finally:
        server.update(wal_archive="")


def test_a_server_that_is_down_is_counted_but_does_not_fail_the_command() -> None:
    DatabaseServer.objects.create(name="gone", admin_url="postgresql://nobody@127.0.0.1:1/none")
    told, complaints = StringIO(), StringIO()
    try:
        call_command("control_setup", stdout=told, stderr=complaints)
    finally:
        DatabaseServer.objects.filter(pk="gone").delete()
    assert complaints.getvalue().startswith("Database server gone cannot be reached: ")
    assert told.getvalue() == "The control database is ready, but 1 problem was reported.\n"
    told = StringIO()
    call_command("control_setup", stdout=told)
    assert told.getvalue() == "The control database is ready.\n"


def test_the_migrations_that_were_applied_are_recorded() -> None:
    """The first entry, from the session's set-up, lists even the migration that created the log."""
    first = ControlAuditLog.objects.filter(action="control.setup").earliest("id")
    assert first.details is not None
    assert {"audit_control.0001_initial", "tenants.0001_initial"} <= set(first.details["migrations"])
    before = ControlAuditLog.objects.filter(action="control.setup").count()
    control_setup()
    assert ControlAuditLog.objects.filter(action="control.setup").count() == before, "nothing was left to apply"


@pytest.mark.parametrize("keys", [["not-a-key"], []])
def test_unusable_encryption_keys_are_refused_before_anything_is_changed(settings: Any, keys: list[str]) -> None:
    before = ControlAuditLog.objects.count()
    settings.ENCRYPTION_KEYS = keys
    problem = NO_KEY if keys else "SEO_GEN_ENCRYPTION_KEYS is empty."
    with pytest.raises(EncryptionKeyError) as refusal:
        control_setup()
    assert (refusal.value.message, refusal.value.code) == (problem, "encryption_keys_invalid")
    assert refusal.value.hint.endswith(TO_GENERATE)
    assert ControlAuditLog.objects.count() == before
    assert keys_are_usable() == [Error(problem, hint=refusal.value.hint, id="tenants.E001")]


def test_a_malformed_encryption_key_is_one_sentence_with_the_next_step() -> None:
    refused = seo_gen("control", "setup", SEO_GEN_ENCRYPTION_KEYS="hunter2")
    assert (refused.returncode, refused.stdout) == (1, "")
    hint = "Set it to Fernet keys, separated by commas. For a new installation, generate one: "
    assert refused.stderr.startswith(f"{NO_KEY} {hint}")
    assert "hunter2" not in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
