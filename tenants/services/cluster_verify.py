"""Compare base backups with their checksums again: files change and vanish after they were written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from config.errors import SeoGenError
from tenants.base_backups import completed, readable, verify
from tenants.models import BaseBackup
from tenants.places import FOLDER_MODE
from tenants.router import CONTROL
from tenants.selectors import server_get
from tenants.services.cluster_backup import server_lock


@dataclass(frozen=True)
class Verified:
    """What was found of one base backup."""

    name: str
    # One sentence, "" where it is whole.
    problem: str


def cluster_backups_verify(*, server_name: str | None = None) -> list[Verified]:
    """Verify every base backup of the server, the default one unless named; those that are whole are marked so.

    One that lies in a bucket is fetched first. Raises `ServerError` where the server is being backed up now.
    """
    server = server_get(server_name)
    with server_lock(server):
        return [_verify(backup) for backup in completed(server)]


def _verify(backup: BaseBackup) -> Verified:
    problem = ""
    scratch = Path(settings.HOME) / "base-backups"
    scratch.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    with tempfile.TemporaryDirectory(prefix=".verify-", dir=scratch) as folder:
        try:
            assert backup.server_version is not None  # it is completed
            verify(readable(backup, Path(folder) / backup.name), backup.server_version)
        except SeoGenError as error:
            problem = str(error)
    with transaction.atomic(using=CONTROL):
        if not problem:
            BaseBackup.objects.using(CONTROL).filter(pk=backup.pk).update(verified_at=Now())
        record(
            using=CONTROL,
            action="cluster.backup.verify",
            resource_type="base_backup",
            resource_id=str(backup.pk),
            details={"server": backup.server_id, "whole": not problem},
        )
    return Verified(backup.name, problem)
