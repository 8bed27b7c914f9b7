"""What is done to all versions of objects in a bucket of S3, as many at a time as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

# How many objects one request deletes at most.
BATCH = 1000


@dataclass(frozen=True)
class ObjectVersion:
    key: str
    # "null" in a bucket that keeps no versions.
    version: str
    # 0 for a mark that the object was deleted.
    size_bytes: int
    is_mark: bool


def versions(client: Any, bucket: str, prefix: str) -> Iterator[ObjectVersion]:
    """Yield every version of every object whose key begins so, marks of deletion included, sorted by key."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        kept = [ObjectVersion(item["Key"], item["VersionId"], item["Size"], False) for item in page.get("Versions", [])]
        marks = [ObjectVersion(item["Key"], item["VersionId"], 0, True) for item in page.get("DeleteMarkers", [])]
        # A page has the two apart; together they are all that it has of its keys.
        yield from sorted([*kept, *marks], key=lambda one: one.key)


def erase(client: Any, bucket: str, found: Iterable[ObjectVersion]) -> int:
    """Delete those versions for good; return how many. Raises `ClientError` with S3's reason for the first refusal."""
    remaining, count = iter(found), 0
    while batch := list(islice(remaining, BATCH)):
        objects = [{"Key": one.key, "VersionId": one.version} for one in batch]
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        for refusal in answer.get("Errors", []):
            raise ClientError({"Error": refusal}, "DeleteObjects")
        count += len(batch)
    return count


def abort_uploads(client: Any, bucket: str, prefix: str) -> int:
    """End every unfinished upload to a key that begins so, its parts included; return how many."""
    count = 0
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            count += 1
    return count
