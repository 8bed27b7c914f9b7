"""The time that removing a tenant's objects from S3 takes, compared with plain boto3."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.test import override_settings

from benchmarks.environment import Environment
from benchmarks.measure import interleaved, ratios, seconds_of
from benchmarks.tables import Row, Table
from tests.support.s3 import S3Server, running_s3

ROUNDS = 3
# The objects of a round, and those of the one large tenant.
OBJECTS, MANY = 5_000, 100_000
# How many are removed one by one; fewer, because that is slow.
FEW = 500
BUCKET = "erasure"
# S3's own limit on one request.
BATCH = 1000
WRITERS = 16
MB = 2**20
_numbers = count()


def erasure(environment: Environment) -> list[Table]:
    """Erase prefixes from a bucket with versioning."""
    folder = environment.home.path / "s3"
    folder.mkdir()
    with running_s3(folder) as server, override_settings(STORAGES=_in_s3(server)):
        client = storages["artifacts"].connection.meta.client  # type: ignore[attr-defined]
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        return [_against_bare(client), _large(client)]


def _against_bare(client: Any) -> Table:
    from tenants.files import tenant_storage

    def timed(erase: Callable[[str], object], number: int) -> Callable[[], float]:
        def once() -> float:
            tenant_id = _filled(client, number)
            return seconds_of(lambda: erase(tenant_id)) / number

        return once

    seconds = interleaved(
        {
            "ours": timed(tenant_storage.erase_all, OBJECTS),
            "bare": timed(lambda tenant_id: _bare(client, tenant_id), OBJECTS),
            "one by one": timed(lambda tenant_id: _one_by_one(client, tenant_id), FEW),
        },
        rounds=ROUNDS,
    )
    return Table(
        "Erasing objects in S3",
        [
            Row("product ÷ boto3, 1,000 a request", ratios(seconds["ours"], seconds["bare"]), at_most=1.2),
            Row("one request for each ÷ product", ratios(seconds["one by one"], seconds["ours"])),
        ],
        [f"{OBJECTS:,} objects of a bucket that keeps versions, SeaweedFS on the same machine."],
    )


def _large(client: Any) -> Table:
    from tenants.erasure.inventory import storage_held
    from tenants.files import tenant_storage

    tenant_id = _filled(client, MANY)
    requests = 0

    def one_more(**_event: object) -> None:
        nonlocal requests
        requests += 1

    client.meta.events.register("before-send.s3.DeleteObjects", one_more)
    before = _memory_bytes()
    started = time.perf_counter()
    held = storage_held(tenant_id)
    listed_s = time.perf_counter() - started
    erased = tenant_storage.erase_all(tenant_id)
    erased_s = time.perf_counter() - started - listed_s
    assert (held.objects, erased, storage_held(tenant_id).versions) == (MANY, MANY, 0)
    return Table(
        f"A tenant with {MANY:,} objects in S3",
        [
            Row("requests that delete", [requests], at_most=MANY / BATCH),
            Row("seconds to list them, with their digest", [listed_s]),
            Row("seconds to erase them", [erased_s]),
            Row("more memory than before, MB", [(_memory_bytes() - before) / MB]),
        ],
    )


def _in_s3(server: S3Server) -> dict[str, Any]:
    options = {
        "bucket_name": BUCKET,
        "endpoint_url": server.endpoint,
        "region_name": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "file_overwrite": True,
    }
    backend = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    return {**settings.STORAGES, "artifacts": backend}


def _filled(client: Any, number: int) -> str:
    """Create `number` objects under the prefix of a new tenant id, without a tenant; return the id."""
    tenant_id = f"erased-{next(_numbers)}"
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), _keys(tenant_id, number)))
    return tenant_id


def _keys(tenant_id: str, number: int) -> Iterator[str]:
    from tenants.files.tenant_storage import prefix_of

    return (f"{prefix_of(tenant_id)}{one:07}/draft/output.json" for one in range(number))


def _pages(client: Any, tenant_id: str) -> Iterator[list[dict[str, str]]]:
    from tenants.files.tenant_storage import prefix_of

    pages = client.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=prefix_of(tenant_id))
    return ([{"Key": item["Key"], "VersionId": item["VersionId"]} for item in page["Versions"]] for page in pages)


def _bare(client: Any, tenant_id: str) -> None:
    for page in _pages(client, tenant_id):
        client.delete_objects(Bucket=BUCKET, Delete={"Objects": page, "Quiet": True})


def _one_by_one(client: Any, tenant_id: str) -> None:
    for page in _pages(client, tenant_id):
        for item in page:
            client.delete_object(Bucket=BUCKET, **item)


def _memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
