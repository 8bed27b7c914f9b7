"""Extract a tar file with the standard library's filter, and on a Python without it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tenants.files.tar import extract_all

pytestmark = pytest.mark.unit


@pytest.fixture(params=["filter", "no filter"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test as on Python 3.11.4 or newer, and again as on an older Python without tarfile's filters."""
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("this Python has no filter")


def archive(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarFile:
    """Return a tar file with one member, to be read as a stream."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode, member.uid = kind, link, 0o4777, 12345
    content = b"content" if kind == tarfile.REGTYPE else b""
    member.size = len(content)
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    written.seek(0)
    return tarfile.open(fileobj=written, mode="r|")


def test_a_file_is_extracted_as_ones_own(tmp_path: Path) -> None:
    with archive("folder/file") as tar:
        extract_all(tar, tmp_path)
    found = tmp_path / "folder" / "file"
    assert found.read_bytes() == b"content"
    assert (found.stat().st_uid, found.stat().st_mode & 0o7022) == (tmp_path.stat().st_uid, 0)


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "../../etc"),
        ("device", tarfile.CHRTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_what_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with archive(name, kind, link) as tar, pytest.raises(tarfile.TarError):
        extract_all(tar, target)
    assert list(target.iterdir()) == [] and [path.name for path in tmp_path.iterdir()] == ["target"]
