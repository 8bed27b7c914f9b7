"""Fetch an archived WAL file with another tool's command, as PostgreSQL's `restore_command` would."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from django.utils.translation import gettext as _

from config.stack import system_user
from tenants.files.locations import FOLDER_MODE
from tenants.models import DatabaseServer
from tenants.pitr.scratch_server import RecoveryError

PLACEHOLDER = re.compile(r"%([fpr%])")
# The shell uses higher statuses if it cannot run the command; PostgreSQL makes the same distinction.
NOT_FOUND_MAX = 125
# Segments, timeline history files and backup history files.
FILE_NAME = re.compile(r"[0-9A-Za-z.]+")
# The command's environment. Ours is not passed on, since it may contain secrets.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def run_restore_command(server: DatabaseServer, name: str, oldest: str, target: Path) -> bool:
    """Fetch the archived file `name` to `target`; return False if the command reports that the file does not exist.

    Any exit status from 1 to 125 counts as such a report, and so does success without a file. Also returns False,
    without running the command, if `name` or `oldest` cannot be the name of an archived file. Raises `RecoveryError` if
    the command is killed by a signal, or exits with a status above 125, as the shell does if it cannot run the command.

    `oldest` is the name of the oldest file that the server still needs (%r). The command runs in its own folder beside
    the target; if we are root, it runs as the system account `seo-gen`. The placeholders are those of PostgreSQL's
    `restore_command` (see the PostgreSQL manual).
    """
    account = system_user.ensure_account() if system_user.needed() else None
    folder = target.parent / "restored"
    folder.mkdir(exist_ok=True, mode=FOLDER_MODE)
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
        system_user.let_through(account, folder / name)
    # Both names become part of a shell command.
    if not FILE_NAME.fullmatch(name) or not FILE_NAME.fullmatch(oldest):
        return False
    values = {"f": name, "p": name, "r": oldest, "%": "%"}
    done = subprocess.run(
        ["/bin/sh", "-c", PLACEHOLDER.sub(lambda found: values[found[1]], server.wal_restore_command)],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )
    if done.returncode < 0 or done.returncode > NOT_FOUND_MAX:
        raise RecoveryError(
            _("The restore command of database server %(name)s was ended by signal %(signal)d.")
            % {"name": server.name, "signal": -done.returncode}
            if done.returncode < 0
            else _("The restore command of database server %(name)s failed: exit status %(status)d.")
            % {"name": server.name, "status": done.returncode},
            hint=_(
                "Try it by hand as the account %(account)s, with no environment variables except PATH=%(path)s"
                " and LC_ALL=C."
            )
            % {"account": account.pw_name if account else _own_account(), "path": os.defpath},
            code="restore_command_failed",
        )
    if done.returncode or not (folder / name).is_file():
        return False
    # Copy rather than move the file, since it may be a link to the archive's own file.
    shutil.copyfile(folder / name, target)
    (folder / name).unlink()
    return True


def _own_account() -> str:
    """Return the name of the account that we run as; its number if it has no name, as in some containers."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
