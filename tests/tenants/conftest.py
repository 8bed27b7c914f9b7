"""Fixtures for tests of tenants: fleets, a later release, a second server, S3 and age keys.

Models are imported inside the fixtures: Django may not be set up yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest_django import Settings

from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from tenants.models import DatabaseServer, Tenant
    from tests.support.releases import NextRelease


@pytest.fixture
def no_other_requests() -> None:
    """Delete all requested operations: a worker that is woken carries out all that are due, not only the test's."""
    from tenants.models import OperationRequest

    OperationRequest.objects.all().delete()


@pytest.fixture
def empty_fleet() -> None:
    """Delete the rows of all tenants: an operation on all tenants must not include those that other tests left."""
    from tenants.models import Tenant

    Tenant.objects.all().delete()


@pytest.fixture(scope="module")
def fifty() -> Iterator[list[Tenant]]:
    """Delete the rows of all tenants, and yield fifty new ones.

    Tests of failed migrations share them, since a failed migration changes nothing.
    """
    from tenants.lifecycle.create import tenant_create
    from tenants.models import Tenant
    from tests.support.tenant_fixtures import cloning_fast, remove

    Tenant.objects.all().delete()
    with cloning_fast():
        tenants = [tenant_create(name=f"fleet {number:02}") for number in range(50)]
    yield tenants
    for tenant in tenants:
        remove(tenant)


@pytest.fixture
def next_release(tmp_path: Path) -> NextRelease:
    """Return a later release, to which the test adds migrations."""
    from tests.support.releases import NextRelease

    return NextRelease(tmp_path / "release")


@pytest.fixture
def second_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseServer]:
    """Yield a separate PostgreSQL server, registered as "second". Request it before `make_tenant`, so that it outlives
    the tenants.

    The parameter, if any, contains server options ("name=value …").
    """
    from tenants.lifecycle.setup import server_register
    from tests.support.servers import second_postgres

    with second_postgres(tmp_path / "second", getattr(request, "param", "")) as url:
        server = server_register(name="second", admin_url=url)
        yield server
    server.delete()


@pytest.fixture
def forgotten() -> Iterator[None]:
    """At the end, remove the tombstones of the erasures that the test made, so that other tests do not find them."""
    from tenants.models import Erasure
    from tests.tenants.support.erased import forget_erasure

    before = set(Erasure.objects.values_list("pk", flat=True))
    yield
    for row in Erasure.objects.exclude(pk__in=before):
        forget_erasure(row)


@pytest.fixture
def s3_place(s3_server: S3Server, settings: Settings) -> str:
    """Return the URL of a folder in the S3 server's bucket, and point the settings for backups to that server."""
    settings.AWS_S3_ENDPOINT_URL = s3_server.endpoint
    settings.AWS_S3_REGION_NAME = s3_server.region
    settings.AWS_ACCESS_KEY_ID = s3_server.access_key
    settings.AWS_SECRET_ACCESS_KEY = s3_server.secret_key
    return f"s3://{s3_server.bucket}/backups"


@dataclass(frozen=True)
class AgeKey:
    recipient: str
    age_identity_file: str


@pytest.fixture
def age_key(tmp_path: Path) -> AgeKey:
    """Return a new age recipient and the path of a file with its age identity."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    file = tmp_path / "age.key"
    file.write_text(f"# made for a test\n{identity}\n")
    return AgeKey(str(identity.to_public()), str(file))
