"""Files of the active tenant: written atomically, and refused if they were altered."""

import errno
import os
import resource
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from django.core.files.storage import storages
from pytest_django import Settings

from runs.errors import DigestMismatch, InvalidPath, MissingFile
from runs.storage import artifact_path, digest_of, output_path, read, read_unverified, write, write_once
from tenants.errors import NoActiveTenant, StorageError
from tenants.files.tenant_storage import remove
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.s3 import S3Server

RUN = uuid.UUID("0f0e0d0c-0b0a-4908-8706-050403020100")


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    artifacts = {**settings.STORAGES["artifacts"]}
    artifacts["OPTIONS"] = {**artifacts["OPTIONS"], "location": tmp_path}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    return tmp_path


@pytest.fixture
def active(tenant: Tenant) -> Iterator[Tenant]:
    with tenant_context(tenant):
        yield tenant


def test_paths_are_the_specifications(active: Tenant) -> None:
    assert output_path(RUN, "draft") == f"storage/{active.pk}/{RUN}/draft/output.json"
    assert artifact_path(RUN, "final", "article.md") == f"storage/{active.pk}/{RUN}/final/artifacts/article.md"


def test_what_was_written_is_read(active: Tenant, folder: Path) -> None:
    file = write(output_path(RUN, "draft"), b"{}\n")
    assert (file.size_bytes, file.digest) == (3, digest_of(b"{}\n"))
    assert (folder / file.path).read_bytes() == b"{}\n"
    assert read(file.path, file.digest) == b"{}\n"
    with pytest.raises(DigestMismatch, match="no sha256 is recorded"):
        read(file.path, None)


def test_a_file_is_replaced_and_nothing_else_remains(active: Tenant, folder: Path) -> None:
    path = output_path(RUN, "draft")
    write(path, b"old")
    write(path, b"new")
    assert (folder / path).read_bytes() == b"new"
    assert [found.name for found in (folder / path).parent.iterdir()] == ["output.json"]


def test_files_and_folders_are_for_the_owner_and_its_group(active: Tenant, folder: Path) -> None:
    path = folder / write(output_path(RUN, "draft"), b"x").path
    assert path.stat().st_mode & 0o777 == 0o640
    assert {parent.stat().st_mode & 0o777 for parent in list(path.parents)[:4]} == {0o750}


def test_a_changed_file_is_refused_by_its_path(active: Tenant, folder: Path) -> None:
    file = write(output_path(RUN, "draft"), b"as it was")
    (folder / file.path).write_bytes(b"as it is")
    with pytest.raises(DigestMismatch, match=rf"Storage: the sha256 of {file.path} differs from the recorded one"):
        read(file.path, file.digest)
    with pytest.raises(DigestMismatch):
        read(file.path, None)


def test_a_missing_file_is_named(active: Tenant, folder: Path) -> None:
    path = output_path(RUN, "draft")
    assert read_unverified(path) is None
    with pytest.raises(MissingFile, match=rf"Storage: {path} is missing\."):
        read(path, "0" * 64)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("..", "x.md"),
        ("draft/..", "x.md"),
        ("draft", "../x.md"),
        ("draft", "/etc/passwd"),
        ("draft", ".hidden.md"),
        ("draft", "x"),
        ("draft", "x.md\n"),
        ("draft", "x.md\x00"),
        ("draft", ""),
        ("Draft", "x.md"),
        ("", "x.md"),
    ],
)
def test_a_part_that_leads_elsewhere_is_refused(active: Tenant, step: str, name: str) -> None:
    with pytest.raises(InvalidPath, match=f"is not a valid path of tenant {active.pk}"):
        artifact_path(RUN, step, name)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "storage/other-tenant/0f0e0d0c-0b0a-4908-8706-050403020100/draft/output.json",
        "storage/{tenant}/../other/0f0e0d0c-0b0a-4908-8706-050403020100/draft/output.json",
        "storage/{tenant}/0f0e0d0c-0b0a-4908-8706-050403020100/../../../x/output.json",
        "storage/{tenant}x/0f0e0d0c-0b0a-4908-8706-050403020100/draft/output.json",
        "storage/{tenant}/0f0e0d0c-0b0a-4908-8706-050403020100/draft/output.json/",
        "./storage/{tenant}/0f0e0d0c-0b0a-4908-8706-050403020100/draft/output.json",
    ],
)
def test_a_foreign_path_is_neither_read_nor_written(active: Tenant, path: str) -> None:
    asked = path.format(tenant=active.pk)
    with pytest.raises(InvalidPath):
        read(asked, "0" * 64)
    with pytest.raises(InvalidPath):
        write(asked, b"x")


def test_another_tenants_file_is_out_of_reach(tenant_pair: tuple[Tenant, Tenant], folder: Path) -> None:
    one, other = tenant_pair
    with tenant_context(one):
        file = write(output_path(RUN, "draft"), b"x")
    with tenant_context(other), pytest.raises(InvalidPath):
        read(file.path, file.digest)


def test_without_a_tenant_there_are_no_files() -> None:
    with pytest.raises(NoActiveTenant):
        output_path(RUN, "draft")


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(active: Tenant, folder: Path) -> None:
    """A limit on file sizes simulates a full disk: writing fails in the same place."""
    path = output_path(RUN, "draft")
    write(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StorageError, match=rf"Storage: {path} cannot be written: File too large\."):
            write(path, b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (folder / path).read_bytes() == b"old"
    assert [found.name for found in (folder / path).parent.iterdir()] == ["output.json"]


def test_a_folder_that_is_a_file_is_one_sentence(active: Tenant, folder: Path) -> None:
    (folder / "storage").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be written: Not a directory\."):
        write(output_path(RUN, "draft"), b"x")


def test_what_a_killed_writer_left_is_removed(active: Tenant, folder: Path) -> None:
    path = output_path(RUN, "draft")
    target = folder / path
    target.parent.mkdir(parents=True)
    left = target.parent / ".output.json.partial"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3700,) * 2)
    write(path, b"whole")
    assert [found.name for found in target.parent.iterdir()] == ["output.json"]


def test_files_and_folders_that_are_gone_already_are_no_error(active: Tenant, folder: Path) -> None:
    paths = [output_path(RUN, step) for step in ("draft", "final")]
    write(paths[0], b"x")
    assert remove([*paths, *paths]) == 4
    assert not (folder / paths[0]).parent.exists()


class TestWriteOnce:
    """The first writer wins, on the file system and in S3."""

    @pytest.fixture(params=["folder", "s3"])
    def place(self, request: pytest.FixtureRequest) -> object:
        return request.getfixturevalue(request.param)

    def test_the_first_writer_wins(self, active: Tenant, place: object) -> None:
        path = output_path(RUN, "draft")
        assert write_once(path, b"first") == b"first"
        assert write_once(path, b"second") == b"first"
        assert read_unverified(path) == b"first"

    def test_of_many_at_once_one_wins(self, active: Tenant, place: object) -> None:
        path = output_path(RUN, "draft")
        contents = [f"writer {number}".encode() * 1000 for number in range(8)]

        with ThreadPoolExecutor(8) as pool:
            # Threads of the pool have no tenant; each call brings its own context.
            calls = [pool.submit(copy_context().run, write_once, path, content) for content in contents]
        found = {call.result() for call in calls}
        assert found == {read_unverified(path)} and found <= set(contents)

    def test_where_conditions_are_unknown_it_is_looked_up(
        self, active: Tenant, s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        client = storages["artifacts"].connection.meta.client  # type: ignore[attr-defined]
        put = client.put_object

        def without_conditions(**keywords: object) -> object:
            if "IfNoneMatch" in keywords:
                raise refusal
            return put(**keywords)

        monkeypatch.setattr(client, "put_object", without_conditions)
        path = output_path(RUN, "draft")
        assert write_once(path, b"first") == b"first"
        assert write_once(path, b"second") == b"first"

    def test_without_hard_links_it_is_looked_up(
        self, active: Tenant, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: object, **_keywords: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        path = output_path(RUN, "draft")
        assert write_once(path, b"first") == b"first"
        assert write_once(path, b"second") == b"first"
        assert [found.name for found in (folder / path).parent.iterdir()] == ["output.json"]


def test_s3_holds_the_same_files(active: Tenant, s3: S3Server) -> None:
    path = output_path(RUN, "draft")
    assert read_unverified(path) is None
    write(path, b"old")
    file = write(path, b"new")
    assert read(file.path, file.digest) == b"new"
    with pytest.raises(DigestMismatch):
        read(file.path, digest_of(b"old"))


def test_s3_out_of_reach_is_one_sentence(active: Tenant, s3: S3Server, settings: Settings) -> None:
    artifacts = settings.STORAGES["artifacts"]
    down = {**artifacts["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**settings.STORAGES, "artifacts": {**artifacts, "OPTIONS": down}}
    with pytest.raises(StorageError, match=r"cannot be written: EndpointConnectionError\."):
        write(output_path(RUN, "draft"), b"x")


def test_a_wrong_key_for_s3_is_one_sentence_without_the_key(active: Tenant, s3: S3Server, settings: Settings) -> None:
    artifacts = settings.STORAGES["artifacts"]
    wrong = {**artifacts["OPTIONS"], "secret_key": "wrong-secret"}
    settings.STORAGES = {**settings.STORAGES, "artifacts": {**artifacts, "OPTIONS": wrong}}
    with pytest.raises(StorageError, match=r"cannot be written: SignatureDoesNotMatch\.") as caught:
        write(output_path(RUN, "draft"), b"x")
    assert "wrong-secret" not in str(caught.value)
