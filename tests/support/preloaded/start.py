"""Python programs that start fast: forked from a process that has already imported the slow packages.

Use `Popen` and `run` like those of `subprocess`, for a program that starts with `sys.executable`. The process is a
child of this one, with arguments, environment, folder, files and session as asked for; it reads the settings and
imports our code itself. Only packages that are not ours are already imported. A start that this cannot imitate gets a
new interpreter.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config.stack.paths import CHECKOUT

# Run as a file: as a module, it would import its package, and with that this module and the product's.
SERVER = Path(__file__).with_name("server.py")
# What packages read while they are imported, and Python while it starts.
READ_AT_START = re.compile(r"PYTHON.*|LD_.*|LC_.*|LANG|LANGUAGE|TZ|.*_LOG|MALLOC_.*|OPENSSL_.*|SSL_.*")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` for a Python program; `pid`, `wait`, `send_signal` and `communicate` work as usual."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, *rest: Any) -> None:
        (pass_fds, cwd, env, startup, creation, shell, *pipes) = rest
        stdin, our_stdin, our_stdout, stdout, our_stderr, stderr, _signals, *identity, new_session, group = pipes
        special = (executable, preexec_fn, shell, *pass_fds, *(one for one in identity if one not in (None, -1)))
        if any(special) or group != -1 or not _is_imitated(args, env):
            super()._execute_child(  # type: ignore[misc]
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startup, creation, shell, *pipes
            )
            return
        files = [number if used == -1 else used for number, used in enumerate((stdin, stdout, stderr))]
        self.pid = _server.start(args, cwd, os.environ if env is None else env, files, bool(new_session))
        self._child_created = True
        self._close_pipe_fds(stdin, our_stdin, our_stdout, stdout, our_stderr, stderr)  # type: ignore[attr-defined]


def run(args: Sequence[str], **keywords: Any) -> subprocess.CompletedProcess[Any]:
    """Do what `subprocess.run` does, with all its keyword arguments except `timeout`."""
    given, check = keywords.pop("input", None), keywords.pop("check", False)
    if given is not None:
        keywords["stdin"] = subprocess.PIPE
    if keywords.pop("capture_output", False):
        keywords.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Popen(args, **keywords) as process:
        try:
            stdout, stderr = process.communicate(given)
        except BaseException:
            process.kill()
            raise
    ended = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
    if check:
        ended.check_returncode()
    return ended


def _is_imitated(args: Any, env: Mapping[str, str] | None) -> bool:
    if not sys.platform.startswith("linux") or isinstance(args, str) or args[0] != sys.executable or len(args) < 2:
        return False
    if args[1].startswith("-") and args[1] not in ("-c", "-m"):
        return False
    return _read_at_start(os.environ if env is None else env) == _read_at_start(_server.environment)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if READ_AT_START.fullmatch(name)}


class _Server:
    """The process that forks. It is started with the first program, and ends with this process."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(
        self, args: Sequence[str], cwd: Any, environment: Mapping[str, str], files: list[int], new_session: bool
    ) -> int:
        """Fork a process and return its id; raise `OSError` if that fails."""
        request = {
            "args": list(args[1:]),
            "cwd": os.fspath(cwd) if cwd is not None else os.getcwd(),
            "environment": dict(environment),
            "new_session": new_session,
            "umask": _umask(),
        }
        with self._lock:
            self._ensure()
            # The forked process loses its parent, which ends at once, while this process adopts orphans. So it can be
            # waited for like any child.
            _adopt_orphans(True)
            try:
                message = json.dumps(request).encode()
                socket.send_fds(self._ours, [len(message).to_bytes(8, "big")], files)
                self._ours.sendall(message)
                answer = self._ours.recv(8)
            finally:
                _adopt_orphans(False)
        if len(answer) < 8:
            raise OSError("the process that forks programs has ended")
        pid = int.from_bytes(answer, "big", signed=True)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _ensure(self) -> None:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(theirs.fileno())],
                cwd=CHECKOUT,
                env=self.environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._owner = os.getpid()
        atexit.register(self._stop, self._process, self._ours, self._owner)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes], ours: socket.socket, owner: int) -> None:
        ours.close()
        if owner == os.getpid():
            process.wait()


def _umask() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))


def _adopt_orphans(does: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(does), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot adopt orphans")


_server = _Server()
