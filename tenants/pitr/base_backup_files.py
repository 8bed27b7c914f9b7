"""The files of base backups: read their metadata, store the files in a folder or bucket, and read them back.

In a folder, a backup is a data directory, as written by pg_basebackup. In a bucket, it is `base.tar` plus the manifest;
the manifest is written last, so its presence shows that the backup is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from config.base.databases import CONTROL
from tenants.errors import TenantError
from tenants.files.locations import FOLDER_MODE, Folder, Place, flush_folder, place_at
from tenants.files.streams import copy_stream
from tenants.files.tar import extract_all
from tenants.models import BaseBackup, DatabaseServer
from tenants.models.backups import BackupStatus
from tenants.operations import advisory_lock
from tenants.servers import programs

MANIFEST = "backup_manifest"
TAR = "base.tar"
# The first PostgreSQL version with incremental backups and pg_combinebackup.
INCREMENTAL_VERSION = 17
# pg_controldata's labels for a server's limits.
LIMITS = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


class BaseBackupError(TenantError):
    """A base backup cannot be made, read or removed."""


@dataclass(frozen=True)
class WalRange:
    """The part of the WAL that a base backup needs to become consistent."""

    timeline: int
    start_lsn: str
    stop_lsn: str


@contextmanager
def files_kept(server: DatabaseServer) -> Iterator[None]:
    """Prevent the removal of the server's base backups and archived WAL inside the block, which reads them.

    Waits up to ten minutes for a removal in progress, then raises `BaseBackupError`.
    """
    with advisory_lock(_files(server), wait_s=600, busy=lambda: _in_use(server), shared=True):
        yield


@contextmanager
def files_removed(server: DatabaseServer) -> Iterator[None]:
    """Lock base backups and archived WAL for removal; raise `BaseBackupError` if another process is using them."""
    with advisory_lock(_files(server), busy=lambda: _in_use(server)):
        yield


def _files(server: DatabaseServer) -> str:
    return f"seo-gen:cluster-files:{server.name}"


def _in_use(server: DatabaseServer) -> BaseBackupError:
    return BaseBackupError(
        _("Another process is reading or removing base backups or archived WAL of database server %(name)s.")
        % {"name": server.name},
        hint=_("Wait for it to end, then try again."),
        code="base_backups_busy",
    )


def completed(server: DatabaseServer) -> QuerySet[BaseBackup]:
    """Return the server's completed base backups, oldest first."""
    backups = BaseBackup.objects.using(CONTROL).filter(server=server, status=BackupStatus.COMPLETED)
    return backups.select_related("parent").order_by("finished_at")


def chain(backup: BaseBackup) -> list[BaseBackup]:
    """Return the backups that `backup` consists of: the full one, then the incremental ones, ending with `backup`."""
    links = [backup]
    while links[0].parent is not None:
        links.insert(0, links[0].parent)
    return links


def wal_range(folder: Path) -> WalRange:
    """Return the range of the WAL that a backup needs, according to its manifest."""
    ranges = json.loads((folder / MANIFEST).read_text())["WAL-Ranges"]
    # There are several ranges if the server's timeline changed during the backup; the newest comes first.
    return WalRange(ranges[0]["Timeline"], ranges[-1]["Start-LSN"], ranges[0]["End-LSN"])


def control_data(folder: Path, version: int) -> dict[str, str]:
    """Return pg_controldata's output for a data directory, as {English label: value}."""
    printed = programs.run([programs.program("pg_controldata", version, exact=True), folder], {})
    pairs = (line.partition(":") for line in printed.splitlines() if ":" in line)
    return {label.strip(): value.strip() for label, _colon, value in pairs}


def limits(folder: Path, version: int) -> dict[str, int]:
    """Return the limits that the server had when the backup was made: {"max_connections": 100, …}."""
    told = control_data(folder, version)
    return {name: int(told[label]) for name, label in LIMITS.items()}


def verify(folder: Path, version: int) -> None:
    """Compare the files with the backup's manifest, and check the WAL that it needs. Raises `ToolError`."""
    programs.run([programs.program("pg_verifybackup", version, exact=True), "--quiet", folder], {})


def require_self_contained(folder: Path) -> None:
    """Raise `BaseBackupError` if the backup has tablespaces or links: they could lead to a live server's files."""
    leading = [*(folder / "pg_tblspc").iterdir(), *_links(folder)]
    if leading:
        raise BaseBackupError(
            _(
                "The base backup %(path)s is not self-contained: %(link)s is a link or a tablespace, which could lead"
                " outside its folder."
            )
            % {"path": folder, "link": leading[0].relative_to(folder)},
            hint=_(
                "If the server has tablespaces, move their contents to pg_default and drop them. Then make a new base"
                " backup."
            ),
            code="base_backup_has_tablespaces",
        )


def _links(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif entry.is_dir():
                yield from _links(Path(entry.path))


def staging(place: Place, name: str) -> Path:
    """Return the folder in which the backup is made: in `place`, or in SEO_GEN_HOME if `place` is a bucket."""
    folder = Path(place.url) if isinstance(place, Folder) else Path(settings.HOME) / "base-backups"
    return folder / f".{name}.partial"


def store(staged: Path, place: Place, name: str) -> None:
    """Move a finished backup to its final location."""
    if isinstance(place, Folder):
        staged.rename(staged.with_name(name))
        flush_folder(staged.parent)
        return
    with place.writing(f"{name}/{TAR}") as file, tarfile.open(fileobj=file, mode="w|") as tar:
        tar.add(staged, arcname=".")
    place.write(f"{name}/{MANIFEST}", (staged / MANIFEST).read_bytes())
    shutil.rmtree(staged)


def manifest_fetch(backup: BaseBackup, target: Path) -> None:
    """Copy the backup's manifest to `target`; the next incremental backup needs it. Raises `PlaceError`."""
    with place_at(backup.place).open(f"{backup.name}/{MANIFEST}") as source, target.open("wb") as copy:
        copy_stream(source, copy)


def remove(backup: BaseBackup) -> None:
    """Remove the backup's files, including those of an interrupted attempt. Raises `PlaceError` or `OSError`."""
    place = place_at(backup.place)
    staged = staging(place, backup.name)
    if isinstance(place, Folder):
        stored = staged.with_name(backup.name)
        if stored.exists():
            # Rename first: then, even if the removal is interrupted, no partial backup has the final name.
            stored.rename(staged)
    else:
        for name in (f"{backup.name}/{MANIFEST}", f"{backup.name}/{TAR}"):
            place.remove(name)
    if staged.exists():
        shutil.rmtree(staged)


def unpack(backup: BaseBackup, target: Path) -> None:
    """Create the data directory `target` from copies of the backup's files; the backup itself is not changed.

    An incremental backup is combined with the backups that it builds on. Raises `ToolError`, `PlaceError` or
    `BaseBackupError`.
    """
    links = chain(backup)
    if len(links) == 1:
        _copy(backup, target)
        require_self_contained(target)
        return
    assert backup.server_version is not None  # it is completed
    combine = programs.program("pg_combinebackup", backup.server_version, exact=True)
    folders = [readable(link, target.with_name(f"link-{number}")) for number, link in enumerate(links)]
    for folder in folders:
        # Checked beforehand, since pg_combinebackup would copy tablespaces to their original paths.
        require_self_contained(folder)
    programs.run([combine, "--no-sync", "--output", target, *folders], {})
    for folder in target.parent.glob("link-*"):
        shutil.rmtree(folder)


def readable(backup: BaseBackup, scratch: Path) -> Path:
    """Return a folder with the backup's files: its own folder, or, if it is in a bucket, `scratch` with a copy.

    Raises `BaseBackupError` or `PlaceError`.
    """
    place = place_at(backup.place)
    if isinstance(place, Folder):
        return _existing(place, backup)
    _copy(backup, scratch)
    return scratch


def _copy(backup: BaseBackup, target: Path) -> None:
    place = place_at(backup.place)
    if isinstance(place, Folder):
        source = _existing(place, backup)
        try:
            shutil.copytree(source, target, symlinks=True)
        except shutil.Error as error:
            # error.args[0] is a list of (source, target, reason).
            raise BaseBackupError(
                _("The base backup %(path)s cannot be copied: %(reason)s.")
                % {"path": source, "reason": error.args[0][0][2]},
                hint=_("If the disk that contains SEO_GEN_HOME is full, free up space there, then try again."),
                code="base_backup_not_copied",
            ) from error
        return
    os.mkdir(target, FOLDER_MODE)
    try:
        with place.open(f"{backup.name}/{TAR}") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            extract_all(tar, target)
    except tarfile.TarError as error:
        raise BaseBackupError(
            _("The base backup %(path)s cannot be unpacked: %(reason)s.")
            % {"path": place.path(f"{backup.name}/{TAR}"), "reason": error},
            hint=_(
                "Make a new one with `seo-gen cluster backup --server %(name)s`; you can then restore to any time after"
                " it."
            )
            % {"name": backup.server_id},
            code="base_backup_corrupt",
        ) from error
    target.chmod(FOLDER_MODE)


def _existing(place: Folder, backup: BaseBackup) -> Path:
    folder = Path(place.url) / backup.name
    if not (folder / MANIFEST).exists():
        raise BaseBackupError(
            _("The base backup %(path)s is missing or incomplete.") % {"path": folder},
            hint=_(
                "If its disk is not mounted, mount it. Otherwise, make a new one with `seo-gen cluster backup --server"
                " %(name)s`; you can then restore to any time after it."
            )
            % {"name": backup.server_id},
            code="base_backup_missing",
        )
    return folder
