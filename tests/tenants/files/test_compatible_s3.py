"""S3-compatible servers that lack something: the product does without it, or shows the server's own message."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from pytest_django import Settings

from config.stack.paths import CHECKOUT
from tenants.backup.backup import tenant_backup
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.errors import DeletionRefused, StorageError
from tenants.files import tenant_storage
from tenants.files.locations import PlaceError, place_at, reason_of_place
from tenants.models import Backup, BackupStatus, Erasure, Tenant
from tenants.restore.verify_backup import backups_verify
from tenants.transfer.export import tenant_export
from tests.support import preloaded
from tests.support.odd_s3 import (
    Oddity,
    OddS3,
    deletes_one_at_a_time,
    is_overloaded,
    knows_no_conditions,
    knows_no_uploads,
    knows_no_versions,
    lists_nothing,
    odd_s3,
    refuses_checksums,
    wants_content_md5,
)
from tests.support.program import seo_gen
from tests.support.s3 import S3Server
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run

pytestmark = pytest.mark.usefixtures("forgotten")

Odd = Callable[..., AbstractContextManager[OddS3]]


@pytest.fixture
def odd(s3_server: S3Server, s3_place: str, settings: Settings) -> Odd:
    """Return a context manager that runs an odd server and makes storage and backups use it, as settings would."""

    @contextmanager
    def through(*oddities: Oddity) -> Iterator[OddS3]:
        with odd_s3(s3_server, *oddities) as server:
            settings.AWS_S3_ENDPOINT_URL = server.endpoint
            calculation, validation = (
                settings.AWS_REQUEST_CHECKSUM_CALCULATION,
                settings.AWS_RESPONSE_CHECKSUM_VALIDATION,
            )
            options = {
                "bucket_name": s3_server.bucket,
                "endpoint_url": server.endpoint,
                "region_name": s3_server.region,
                "access_key": s3_server.access_key,
                "secret_key": s3_server.secret_key,
                "file_overwrite": True,
                "default_acl": None,
                "client_config": Config(
                    request_checksum_calculation=calculation, response_checksum_validation=validation
                ),
            }
            artifacts = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
            settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
            yield server

    return through


def left_of(tenant: Tenant, server: S3Server) -> list[str]:
    """Return the keys of the versions and delete markers of the tenant's objects, as the server lists them without the
    proxy.
    """
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    found = client.list_object_versions(Bucket=server.bucket)
    return [
        one["Key"] for one in [*found.get("Versions", []), *found.get("DeleteMarkers", [])] if tenant.id in one["Key"]
    ]


@pytest.mark.parametrize(
    "oddities",
    [
        (wants_content_md5,),
        (deletes_one_at_a_time,),
        (knows_no_versions,),
        (knows_no_versions, knows_no_uploads, deletes_one_at_a_time),
        (refuses_checksums, wants_content_md5),
        (knows_no_conditions,),
    ],
    ids=lambda found: " and ".join(one.__name__ for one in found),
)
def test_a_tenant_is_stored_backed_up_verified_and_erased(
    tenant: Tenant, odd: Odd, s3_server: S3Server, s3_place: str, oddities: tuple[Oddity, ...]
) -> None:
    with odd(*oddities) as server:
        add_run(tenant)
        backup = back_up(tenant, s3_place, with_storage=True)
        tenant_export(tenant_id=tenant.id, output=f"{s3_place}/{tenant.id}.bundle")
        assert [one.problem for one in backups_verify(file=backup)] == [""]
        assert left_of(tenant, s3_server)
        row = tenant_delete(tenant_id=tenant.id)
        assert row.certificate is not None and row.certificate["erased"]["storage"]["objects"] == 2
        assert {one.status for one in Backup.objects.filter(tenant_id=tenant.id)} == {BackupStatus.REMOVED}
        [check] = erasures_verify(tenant_id=tenant.id)
        assert check.problems == []
    assert left_of(tenant, s3_server) == []
    # The only refused requests are those that find out whether the server knows them.
    assert {one.status for one in server.refused} <= {501}


def test_storage_that_refuses_listing_is_reported_before_closing_the_tenant(tenant: Tenant, odd: Odd) -> None:
    with odd(lists_nothing):
        with pytest.raises(
            DeletionRefused, match="AccessDenied: Not authorized to perform s3:ListBucketVersions"
        ) as told:
            tenant_delete(tenant_id=tenant.id)
        assert "docs/configuration.md" in told.value.hint
    tenant.refresh_from_db()
    assert tenant.status == "active"
    assert not Erasure.objects.filter(tenant_id=tenant.id).exists()


def test_a_storage_that_is_overloaded_does_not_count_as_refusing(odd: Odd) -> None:
    with odd(is_overloaded) as server:
        assert tenant_storage.refusal_of("anyone") == ""
    assert server.refused


def test_refused_checksum_is_reported_with_the_servers_message(
    tenant: Tenant, odd: Odd, s3_place: str, settings: Settings
) -> None:
    settings.AWS_REQUEST_CHECKSUM_CALCULATION = "when_supported"
    with odd(refuses_checksums):
        words = r"InvalidArgument: Unsupported header x-amz-\S+ received for this API call\."
        with pytest.raises(StorageError, match=words) as told:
            tenant_storage.write_all({f"{tenant_storage.prefix_of(tenant.id)}x": b"x"})
        assert "docs/configuration.md" in told.value.hint and "make room" not in str(told.value)
        with pytest.raises(PlaceError, match=words):
            place_at(s3_place).write("x", b"x")
        [outcome] = tenant_backup(tenant_id=tenant.id, output=s3_place)
        assert outcome.backup is None and "Unsupported header" in outcome.problem and tenant.id in outcome.problem


@pytest.mark.parametrize("chosen", ["", "when_supported"])
def test_the_settings_reach_the_storage_and_the_places(chosen: str) -> None:
    program = (
        "import django; django.setup()\n"
        "from django.core.files.storage import storages\n"
        "from tenants.files.locations import s3_client\n"
        "for client in (storages['artifacts'].connection.meta.client, s3_client()):\n"
        "    print(client.meta.config.request_checksum_calculation, client.meta.config.response_checksum_validation)\n"
    )
    names = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION") if chosen else ()
    environment = {
        **os.environ,
        "AWS_STORAGE_BUCKET_NAME": "x",
        "AWS_S3_REGION_NAME": "y",
        **dict.fromkeys(names, chosen),
    }
    found = preloaded.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [chosen or "when_required"] * 4


def test_a_setting_that_is_neither_is_one_sentence() -> None:
    result = seo_gen("tenant", "list", AWS_RESPONSE_CHECKSUM_VALIDATION="sometimes")
    assert result.returncode == 1
    assert "AWS_RESPONSE_CHECKSUM_VALIDATION must be when_required or when_supported" in result.stderr


def test_s3_messages_never_show_a_key(settings: Settings) -> None:
    settings.AWS_ACCESS_KEY_ID, settings.AWS_SECRET_ACCESS_KEY = "my-access", "my-secret"
    for code, message, shown in (
        ("InvalidArgument", "my-access and my-secret are odd.\nsecond line", "InvalidArgument: *** and *** are odd"),
        ("InvalidAccessKeyId", "AKIAIOSFODNN7EXAMPLE is unknown", "InvalidAccessKeyId"),
        ("AccessDenied", "AKIAIOSFODNN7EXAMPLE may not", "AccessDenied: *** may not"),
        ("NoSuchThing", "", "NoSuchThing"),
        ("TooLong", "x" * 1000, f"TooLong: {'x' * 300}"),
    ):
        assert reason_of_place(ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")) == shown
