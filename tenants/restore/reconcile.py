"""After a restore, bring back files that rows refer to, and list the differences from the replaced state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress

from django.db.utils import Error

from tenants.app_hooks import FileRef, RunDifferences, contents
from tenants.errors import TenantError
from tenants.files import tenant_storage
from tenants.files.tar import matching, tar_read
from tenants.files.tenant_storage import Content, is_beneath, kept_path, objects_of, prefix_of
from tenants.models import DatabaseServer, Restore, Tenant
from tenants.naming import work_name
from tenants.restore.sources import backup_find, opened
from tenants.routing.owner_connection import owner_connection

# The maximum number of items that a report shows from each list.
NAMED = 1000


def reconcile(
    tenant: Tenant, server: DatabaseServer, row: Restore, *, age_identity_file: str | None = None
) -> dict[str, object]:
    """Bring back files, remove stale messages and rebuild the runs' summaries; return items of the report, by name.

    Runs: lost runs are only in the replaced state, returned runs only in the restored state, and changed runs have
    different statuses in the two. Files: an orphan (newer than the restored state, or left over) is a file that no row
    refers to; a missing file has a row but is gone, altered or outside the tenant's storage. Orphans are kept, since
    undoing the restore needs them; once no kept database refers to them, `tenant orphans --remove` removes them. A list
    has at most `NAMED` items; "counts" has the full numbers. Safe to repeat.
    """
    work = work_name("restore", tenant.identity)
    runs = RunDifferences([], [], [])
    with owner_connection(server, row.live, work) as connection:
        files = list(contents().files(connection.alias))
        dropped = contents().drop_messages(tenant.id, connection.alias)
        contents().summarize(tenant.id, connection.alias)
        # If the live database was gone, none was kept; if it was damaged, the kept one cannot be read.
        with suppress(Error), owner_connection(server, row.kept, work) as replaced:
            runs = contents().compare(connection.alias, replaced.alias)
    problems = broken(tenant.id, files)
    returned: list[str] = []
    if problems:
        returned = _from_backup(tenant, row, problems, age_identity_file) + _from_kept(tenant, row, problems)
        problems = broken(tenant.id, files)
    known = {file.path for file in files}
    orphans = [stored.path for stored in objects_of(tenant.id) if stored.path not in known]
    lists = {
        "lost_runs": runs.lost,
        "returned_runs": runs.returned,
        "changed_runs": runs.changed,
        "restored_files": sorted(returned),
        "missing_files": sorted(file.path for file in problems),
        "orphans": orphans,
    }
    return {
        **{name: items[:NAMED] for name, items in lists.items()},
        "counts": {name: len(items) for name, items in lists.items()},
        "stale_messages": dropped,
    }


def broken(tenant_id: str, files: Iterable[FileRef]) -> list[FileRef]:
    """Return the files that are missing or do not match their row's digest, or whose paths are not the tenant's.

    Never reads another tenant's files.
    """
    return [file for file in files if not (is_beneath(tenant_id, file.path) and _is_whole(file))]


def _is_whole(file: FileRef) -> bool:
    content = tenant_storage.read(file.path)
    return content is not None and hashlib.sha256(content).hexdigest() == file.digest


def _from_backup(tenant: Tenant, row: Restore, wanted: list[FileRef], age_identity_file: str | None) -> list[str]:
    """Restore files from the backup's tar file; return their paths, or [] if the backup or tar file is not found."""
    try:
        file = backup_find(row.source, age_identity_file)
    except TenantError:
        return []
    if file.manifest is None or file.manifest.storage is None:
        return []
    prefix = prefix_of(tenant.id)
    digests = {one.path.removeprefix(prefix): one.digest for one in wanted if is_beneath(tenant.id, one.path)}
    brought = []
    with opened(file.place, file.manifest.storage.name, file.manifest.storage, age_identity_file) as stream:
        for name, content in matching(tar_read(stream), digests):
            _replace(tenant, row, prefix + name, content, digests[name])
            brought.append(prefix + name)
    return brought


def _from_kept(tenant: Tenant, row: Restore, wanted: list[FileRef]) -> list[str]:
    """Restore files that earlier restores set aside, which an undo needs; return their paths."""
    digests = {one.path: one.digest for one in wanted if is_beneath(tenant.id, one.path)}
    put = []
    for stored in list(objects_of(tenant.id, kept=True)):
        path = prefix_of(tenant.id) + stored.path.split("/", 4)[-1]
        if path not in digests:
            continue
        content = tenant_storage.read(stored.path)
        if content is not None and hashlib.sha256(content).hexdigest() == digests[path]:
            _replace(tenant, row, path, content, digests[path])
            put.append(path)
    return put


def _replace(tenant: Tenant, row: Restore, path: str, content: Content, digest: str | None) -> None:
    """Write the content, whose sha256 is `digest`, to `path`; set the current file aside if its digest differs."""
    present = tenant_storage.read(path)
    if present is not None and hashlib.sha256(present).hexdigest() != digest:
        tenant_storage.write_all({kept_path(tenant.id, row.pk, path): present})
    tenant_storage.write_all({path: content})
