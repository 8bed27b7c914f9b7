"""A bundle from a stranger is examined to its end, in pieces, before anything is created from it."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tenants.errors import ImportRefused
from tenants.files.locations import split_file
from tenants.files.streams import Tally
from tenants.lifecycle.create import tenant_create
from tenants.models import Tenant, TenantOperation
from tenants.restore.sources import Unfit
from tenants.transfer.bundle import bundle_open
from tenants.transfer.import_ import _examined, tenant_import
from tests.support.tenant_fixtures import remove
from tests.tenants.foreign import BUNDLE_PARTS, add, bundle, exported
from tests.tenants.support.filled import add_run, files_of

GIGABYTE = 10**9
LARGE_BYTES = 32 * 2**20

Write = Callable[[tarfile.TarFile], None]


def archive(write: Write, mode: str = "w") -> bytes:
    """Return the bytes of a tar file that `write` has filled."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as made:  # type: ignore[call-overload]
        write(made)
    return target.getvalue()


def sparse(name: str, size: int) -> bytes:
    """Return a tar file with one member in GNU's sparse format: one byte that claims to be `size` bytes."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"%011o\0" % 1
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398], header[398:410] = b"%011o\0" % (size - 1), b"%011o\0" % 1
    header[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x".ljust(512, b"\0") + bytes(1024)


def sparse_by_header(name: str, size: int) -> bytes:
    def write(made: tarfile.TarFile) -> None:
        headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": name}
        headers |= {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1", "GNU.sparse.map": f"{size - 1},1"}
        add(made, "x", b"x", pax_headers=headers)

    return archive(write)


def long_name() -> bytes:
    return archive(lambda made: add(made, "a/" * 100_000 + "b", b"x"))


def many() -> bytes:
    """Return a tar file of 100,000 empty files, as tarfile writes them, but ten times as fast."""
    empty = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
    unnamed = empty[100:148]
    behind = empty[156:]
    others = sum(empty) - sum(empty[148:156]) + 8 * ord(" ")
    headers = []
    for number in range(100_000):
        name = b"%d" % number
        headers += [name.ljust(100, b"\0"), unnamed, b"%06o\0 " % (others + sum(name)), behind]
    return b"".join([*headers, bytes(1024)])


def twice(made: tarfile.TarFile) -> None:
    add(made, NAME, b"x")
    add(made, NAME, b"y")


NAME = "11111111-1111-4111-8111-111111111111/draft/output.json"
# {what is in storage.tar: (its content, what is said)}
STORAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "symlink": (
        lambda: archive(lambda made: add(made, NAME, type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        f"The tar file contains '{NAME}', which it must not contain",
    ),
    "hard link": (
        lambda: archive(lambda made: add(made, NAME, type=tarfile.LNKTYPE, linkname="/etc/passwd")),
        "which it must not contain",
    ),
    "device": (
        lambda: archive(lambda made: add(made, NAME, type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
        "which it must not contain",
    ),
    "fifo": (lambda: archive(lambda made: add(made, NAME, type=tarfile.FIFOTYPE)), "which it must not contain"),
    "folder": (lambda: archive(lambda made: add(made, "x", type=tarfile.DIRTYPE)), "which it must not contain"),
    "sparse file": (
        lambda: sparse(NAME, 10 * GIGABYTE),
        f"The tar file contains '{NAME}', which it must not contain",
    ),
    "sparse file by a header": (lambda: sparse_by_header(NAME, 10 * GIGABYTE), "which it must not contain"),
    "absolute name": (
        lambda: archive(lambda made: add(made, "/etc/passwd", b"x")),
        "'/etc/passwd', which it must not contain",
    ),
    "name that leads out": (lambda: archive(lambda made: add(made, "a/../../b", b"x")), "which it must not contain"),
    "name twice": (
        lambda: archive(twice),
        f"The tar file contains '{NAME}' twice",
    ),
    "long name": (long_name, "which it must not contain"),
    "100,000 files": (many, "The tar file contains more files than its manifest allows (10002)"),
    "no archive": (lambda: b"x" * 5000, "The tar file is damaged: invalid header"),
}


def refusal_of(file: Path, new_id: str) -> str:
    operations = TenantOperation.objects.count()
    with pytest.raises(ImportRefused) as refused:
        tenant_import(file=str(file), new_id=new_id)
    # Nothing was begun, so nothing had to be undone.
    assert TenantOperation.objects.count() == operations and not Tenant.objects.filter(pk=new_id).exists()
    said = refused.value.message
    assert "\n" not in said and str(file) in said
    return said


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the parts of an intact bundle of a tenant with a run, by name."""
    tenant = tenant_create(name="moving out")
    add_run(tenant)
    try:
        return exported(tenant, tmp_path_factory.mktemp("bundle"))
    finally:
        remove(tenant)


@pytest.mark.parametrize("what", STORAGES)
def test_files_that_are_not_bundles_are_refused(parts: dict[str, bytes], tmp_path: Path, what: str) -> None:
    make, reason = STORAGES[what]
    file = bundle({**parts, "storage.tar": make()}, tmp_path / "forged")
    assert reason in refusal_of(file, "never")


def test_intact_bundle_is_imported_with_its_files(parts: dict[str, bytes], tmp_path: Path) -> None:
    report = tenant_import(file=str(bundle(parts, tmp_path / "whole")), new_id="comes-in")
    tenant = Tenant.objects.select_related("server").get(pk="comes-in")
    assert report.missing_files == [] and len(files_of(tenant)) == 2
    remove(tenant)


def members(parts: dict[str, bytes], file: Path) -> list[tuple[str, bytes]]:
    """Return the (name, content) pairs of a bundle of these parts with a matching manifest."""
    with tarfile.open(bundle(parts, file)) as made:
        return [(name, made.extractfile(name).read()) for name in BUNDLE_PARTS]  # type: ignore[union-attr]


def unended(members: Sequence[tuple[str, bytes]], file: Path) -> bytes:
    """Return a tar file of the members without its end-of-file blocks and padding."""
    with tarfile.open(file, "w") as made:
        for name, content in members:
            add(made, name, content)
    written = file.read_bytes().rstrip(b"\0")
    return written.ljust(-(-len(written) // 512) * 512, b"\0")


@pytest.mark.parametrize("part", BUNDLE_PARTS)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE], ids=["symlink", "link", "device"])
def test_part_that_is_not_a_regular_file_is_refused(
    parts: dict[str, bytes], tmp_path: Path, part: str, kind: bytes
) -> None:
    file = tmp_path / "forged"
    whole = members(parts, tmp_path / "whole")
    with tarfile.open(file, "w") as made:
        for name, content in whole:
            if name == part:
                add(made, name, type=kind, linkname="/etc/passwd")
            else:
                add(made, name, content)
    assert f"The tar file contains '{part}', which it must not contain" in refusal_of(file, "never")


@pytest.mark.parametrize("part", BUNDLE_PARTS)
def test_a_sparse_part_is_refused_unread(parts: dict[str, bytes], tmp_path: Path, part: str) -> None:
    """Such a part takes almost no space in the bundle, but ten gigabytes when it is read."""
    before = itertools.takewhile(lambda member: member[0] != part, members(parts, tmp_path / "whole"))
    file = tmp_path / "forged"
    file.write_bytes(unended(list(before), file) + sparse(part, 10 * GIGABYTE))
    assert f"The tar file contains '{part}', which it must not contain" in refusal_of(file, "never")


def test_duplicate_and_extra_parts_are_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    whole = members(parts, tmp_path / "whole")
    for more, reason in (
        ("dump", "storage.tar should come next"),
        ("storage.tar", "The file contains 'storage.tar' after the last part of a bundle"),
    ):
        file = tmp_path / f"{more} twice"
        with tarfile.open(file, "w") as made:
            for name, content in whole:
                add(made, name, content)
                if name == more:
                    add(made, name, content)
        assert reason in refusal_of(file, "never")


def test_many_parts_are_refused_at_the_first_unknown_one(parts: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / "forged"
    file.write_bytes(many())
    assert "manifest.json should come next" in refusal_of(file, "never")


def test_a_part_of_another_size_is_not_read(parts: dict[str, bytes], tmp_path: Path) -> None:
    """A file with a hole of ten gigabytes takes up no space, but would take a long time to read."""
    file, size = tmp_path / "forged", 10 * GIGABYTE
    written = unended(members(parts, tmp_path / "whole")[:3], file)
    with file.open("wb") as target:
        target.write(written)
        header = tarfile.TarInfo("dump")
        header.size = size
        target.write(header.tobuf(tarfile.GNU_FORMAT))
        target.truncate(target.tell() + size)
    assert f"dump has {size} bytes, but the manifest says {len(parts['dump'])}" in refusal_of(file, "never")


def test_a_line_of_the_audit_log_is_bounded(parts: dict[str, bytes], tmp_path: Path) -> None:
    endless = {**parts, "audit.jsonl": parts["audit.jsonl"] + b"x" * LARGE_BYTES}
    assert "audit.jsonl contains a line longer than" in refusal_of(bundle(endless, tmp_path / "forged"), "never")


@pytest.mark.parametrize("part", ["dump", "storage.tar"])
def test_a_large_part_is_read_in_pieces(
    parts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Everything that is read passes through a tally; the test records the size of each piece."""
    large = bytes(LARGE_BYTES)
    content = archive(lambda made: add(made, "large", large)) if part == "storage.tar" else parts[part] + large
    file = bundle({**parts, part: content}, tmp_path / "forged", format="custom")
    pieces: list[int] = []
    counted = Tally._counted

    def spy(tally: Tally, data: bytes) -> bytes:
        pieces.append(len(data))
        return counted(tally, data)

    monkeypatch.setattr(Tally, "_counted", spy)
    with bundle_open(*split_file(str(file)), None) as opened, suppress(Unfit):
        _examined(opened)
    assert sum(pieces) > LARGE_BYTES > 4 * max(pieces)
