"""Start detached processes, recognize them later, and end them. Creation times reveal a reused process id."""

import atexit
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Every server carries this variable: it can be found even if the command that started it died before recording it.
MARK = "SEO_GEN_STACK_MARK"
# psutil derives creation times from the boot time, which the kernel rounds and clock adjustments shift a little.
CREATED_TOLERANCE_S = 2.0
# Below the range from which the kernel takes ports of outgoing connections, so that ours stay free over a restart.
PORTS = range(15000, 32000)
LOG_MAX_BYTES = 10_000_000
LOG_MODE = 0o640

# The processes that this very process started; kept so that they can be reaped when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ProcessRecord:
    pid: int
    # Seconds since the epoch; distinguishes this process from a later one with the same id.
    created: float


@dataclass(frozen=True)
class Launch:
    argv: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    # The account to run as; None for the caller's own.
    user_id: int | None = None
    group_id: int | None = None


def spawn(launch: Launch, *, mark: str, log: Path) -> ProcessRecord:
    """Start a process in a session of its own, with its output appended to `log`; return its record."""
    _rotate(log)
    with os.fdopen(_open_log(log), "ab") as output:
        child = subprocess.Popen(
            [str(part) for part in launch.argv],
            cwd=launch.cwd,
            env={**launch.env, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=launch.user_id,
            group=launch.group_id,
            extra_groups=[] if launch.user_id is not None else None,
        )
    _children[child.pid] = child
    return ProcessRecord(child.pid, _created(child.pid))


def alive(record: ProcessRecord | None) -> psutil.Process | None:
    """Return the recorded process; None if it has ended, even if it is still a zombie, or if its id was reused."""
    if record is None:
        return None
    _reap(record.pid)
    try:
        process = psutil.Process(record.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if abs(process.create_time() - record.created) <= CREATED_TOLERANCE_S else None
    except psutil.NoSuchProcess:
        return None


def marked(mark_prefix: str) -> Iterator[tuple[psutil.Process, str]]:
    """Yield every live process that we may inspect and whose mark starts with `mark_prefix`, with its mark."""
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            if mark.startswith(mark_prefix) and process.status() != psutil.STATUS_ZOMBIE:
                yield process, mark
        except (psutil.Error, OSError):
            continue


def leads_session(process: psutil.Process) -> bool:
    """Return whether the process leads its session, as one that `spawn` started does, unlike most of its children."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def end(process: psutil.Process, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Send each signal in turn, and wait up to the given number of seconds after each, until the process is gone."""
    for number, wait_s in steps:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        if wait_until(lambda: gone(process), wait_s):
            return


def gone(process: psutil.Process) -> bool:
    _reap(process.pid)
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], wait_s: float, step_s: float = 0.02) -> bool:
    """Wait up to `wait_s` seconds for the condition; return whether it became true."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def free_port() -> int:
    """Return a loopback port that nothing is listening on now."""
    while True:
        port = random.choice(PORTS)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections still time out is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


@atexit.register
def _let_go() -> None:
    """Record an exit status for every child: at exit, `Popen` would warn about those that are still running."""
    for child in _children.values():
        child.returncode = child.poll() or 0


def _reap(pid: int) -> None:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def _open_log(log: Path) -> int:
    """Open the log for appending, with LOG_MODE even if it exists or the umask differs; return the file descriptor."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, LOG_MODE)
    os.fchmod(descriptor, LOG_MODE)
    return descriptor


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        log.replace(log.with_suffix(".log.1"))
