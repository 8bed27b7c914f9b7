"""List and delete all versions of objects in an S3 bucket, in batches.

Some S3-compatible servers lack parts of the API. If a server reports that it does not know a request (listing versions,
deleting several objects at once), we fall back to simpler requests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

# S3's limit for the number of objects in one delete request.
BATCH = 1000
# Errors from a server that does not know a request (HTTP 501, 405).
UNKNOWN_CODES = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
# Status from a server that rejects a request as malformed; it may accept another form of the request.
MALFORMED = 400


@dataclass(frozen=True)
class ObjectVersion:
    key: str
    # "null" in a bucket without versioning, "" on a server that does not know versions.
    version: str
    # 0 for a delete marker.
    size_bytes: int
    is_mark: bool


def versions(client: Any, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
    """Yield every version of every object whose key starts with `prefix`, including delete markers, sorted by key.

    If the server cannot list versions, older ones cannot be retrieved anyway; in that case, yield every object.
    """
    try:
        yield from _versions(client, bucket, prefix)
    except ClientError as error:
        if not is_unknown(error):
            raise
        yield from _objects(client, bucket, prefix)


def erase(client: Any, bucket: str, found: Iterable[ObjectVersion]) -> int:
    """Permanently delete these versions; return their number. Raises `ClientError` with S3's first refusal."""
    # Registering the handler again for the same client has no effect.
    client.meta.events.register("before-call.s3.DeleteObjects", _with_md5, unique_id="seo-gen-content-md5")
    remaining, count = iter(found), 0
    while batch := list(islice(remaining, BATCH)):
        try:
            _delete_together(client, bucket, batch)
        except ClientError as error:
            if not is_unknown(error) and status_of(error) != MALFORMED:
                raise
            for one in batch:
                client.delete_object(Bucket=bucket, **_named(one))
        count += len(batch)
    return count


def uploads(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every unfinished upload to a key that starts with `prefix`; nothing if the server cannot list uploads."""
    try:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Uploads", [])
    except ClientError as error:
        if not is_unknown(error):
            raise


def abort_uploads(client: Any, bucket: str, prefix: str) -> int:
    """Abort every unfinished upload to a key that starts with `prefix`, dropping its parts; return the count."""
    count = 0
    for upload in uploads(client, bucket, prefix):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        count += 1
    return count


def is_unknown(error: ClientError) -> bool:
    """Return True if the error means that the server does not know this kind of request."""
    return error.response.get("Error", {}).get("Code") in UNKNOWN_CODES or status_of(error) in (405, 501)


def status_of(error: ClientError) -> int | None:
    """Return the response's HTTP status; None if the error concerns one object in a batch."""
    found: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found


def content_md5(content: bytes) -> str:
    """Return the value for the Content-MD5 header."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _versions(client: Any, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        kept = [ObjectVersion(item["Key"], item["VersionId"], item["Size"], False) for item in page.get("Versions", [])]
        marks = [ObjectVersion(item["Key"], item["VersionId"], 0, True) for item in page.get("DeleteMarkers", [])]
        # A page lists versions and delete markers separately; together they cover the page's keys.
        yield from sorted([*kept, *marks], key=lambda one: one.key)


def _objects(client: Any, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (ObjectVersion(item["Key"], "", item["Size"], False) for item in page.get("Contents", []))


def _delete_together(client: Any, bucket: str, batch: Sequence[ObjectVersion]) -> None:
    objects = [_named(one) for one in batch]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    for refusal in answer.get("Errors", []):
        raise ClientError({"Error": refusal}, "DeleteObjects")


def _named(one: ObjectVersion) -> dict[str, str]:
    return {"Key": one.key, "VersionId": one.version} if one.version else {"Key": one.key}


def _with_md5(params: dict[str, Any], **_event: Any) -> None:
    """Send a delete request's checksum as MD5, which every server accepts, instead of the SDK's newer CRC32."""
    checksum = params.get("context", {}).get("checksum", {})
    for name in ("request_algorithm", "request_algorithm_header"):
        checksum.pop(name, None)
    params["headers"]["Content-MD5"] = content_md5(params["body"])
