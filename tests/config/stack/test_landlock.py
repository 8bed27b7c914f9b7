"""What a confined program can write to, and that nothing else is confined with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from config.stack import landlock

pytestmark = pytest.mark.unit

WRITE = 'echo text >"$1/made"; mkdir "$1/folder"; mv "$1/made" "$1/folder/"; rm "$1/old"; ln -s old "$1/link"; true'


def write(folder: Path) -> str:
    return subprocess.run(["/bin/sh", "-c", WRITE, "sh", folder], capture_output=True, text=True, check=True).stderr


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "inside", tmp_path / "outside"
    for folder in made:
        folder.mkdir()
        (folder / "old").touch()
    return made


@pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")
def test_a_confined_program_writes_beneath_its_folders_alone(folders: tuple[Path, Path]) -> None:
    inside, outside = folders
    assert landlock.call_confined(lambda: write(inside), [inside]) == ""
    assert names(inside) == ["folder", "folder/made", "link"]
    assert "Permission denied" in landlock.call_confined(lambda: write(outside), [inside])
    assert names(outside) == ["old"]
    assert write(outside) == "", "the caller is not confined"


def test_without_landlock_it_is_merely_called(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    inside, outside = folders
    assert landlock.call_confined(lambda: write(outside), [inside]) == ""


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    if landlock.version():
        with pytest.raises(FileNotFoundError):
            landlock.call_confined(lambda: None, [tmp_path / "missing"])
