"""Compile and render templates in a separate process with kernel limits (ADR 0014).

Threads share a few of these processes, which are started on demand. They end with the process that started them: they
read from a pipe that the kernel closes however that process ends. A forked child (Celery's pool) starts its own.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from prompts.errors import SandboxUnavailable

PROGRAM = Path(__file__).with_name("sandbox_process.py")
HEADER_BYTES = 8
# An answer is at most MAX_RENDERED_CHARS of four bytes each, escaped; anything longer is not a valid answer.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Templates processed at the same time, per process; each may use a core and `Limits.memory_bytes`.
SANDBOXES_MAX = min(4, os.cpu_count() or 1)
# How long a template waits for its turn before the attempt fails; it can be retried later.
TURN_WAIT_S = 10.0
# How long to wait for an answer after the kernel should have ended the template.
GRACE_S = 3.0


@dataclass(frozen=True)
class Limits:
    """Limits for one template. docs/adr/0014 says what the largest allowed template needs."""

    cpu_s: float = 1.0
    # Longer than `cpu_s`, for busy machines.
    wall_s: float = 1.8
    # Address space, including the interpreter's 25 MB.
    memory_bytes: int = 256 * 1024 * 1024


LIMITS = Limits()
# If a template reached the wall-clock limit after this much CPU time, the template is to blame, not the machine.
BLAMED_CPU_S = LIMITS.cpu_s / 4


class _Lost(Exception):
    """The process ended, or returned a malformed answer."""


class _Silent(Exception):
    """The process did not answer in time, so the machine must be in trouble."""


class _Process:
    """One running `sandbox_process`, used by one thread at a time."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            # No keys or URLs that a template could read if it escaped Jinja2's sandbox.
            env={},
            # Its own process group, so that it can be killed together with the child that renders.
            start_new_session=True,
        )
        assert self._popen.stdin and self._popen.stdout
        self._stdin, self._stdout = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._stdin, False)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def ask(self, request: dict[str, object], limits: Limits) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Return (answer, how the child ended); the answer is None if it sent none. Raises `_Lost` or `_Silent`."""
        deadline = time.monotonic() + limits.wall_s + GRACE_S
        content = json.dumps({**request, "limits": asdict(limits)}).encode()
        try:
            self._write(len(content).to_bytes(HEADER_BYTES) + content, deadline)
            frame = self._read_frame(deadline)
            return (None, frame) if "signal" in frame else (frame, self._read_frame(deadline))
        except (OSError, ValueError, TypeError) as error:
            raise _Lost from error

    def kill(self) -> None:
        """Kill the process and the child that renders, and leave no zombie."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._close()

    def forget(self) -> None:
        """In a forked child: close the pipes to the sandbox process, which would otherwise outlive the parent."""
        self._close()
        self._popen.returncode = 0

    def _close(self) -> None:
        assert self._popen.stdin and self._popen.stdout
        self._popen.stdin.close()
        self._popen.stdout.close()

    def _write(self, content: bytes, deadline: float) -> None:
        remaining = memoryview(content)
        while remaining:
            _wait_for(self._stdin, select.POLLOUT, deadline)
            remaining = remaining[os.write(self._stdin, remaining) :]

    def _read_frame(self, deadline: float) -> dict[str, Any]:
        size = int.from_bytes(self._read(HEADER_BYTES, deadline))
        if size > MAX_ANSWER_BYTES:
            raise _Lost
        frame = json.loads(self._read(size, deadline).decode(errors="surrogatepass"))
        if not isinstance(frame, dict):
            raise _Lost
        return frame

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            _wait_for(self._stdout, select.POLLIN, deadline)
            piece = os.read(self._stdout, size - len(content))
            if not piece:
                raise _Lost
            content += piece
        return bytes(content)


class _Pool:
    """The sandbox processes of this process."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(SANDBOXES_MAX)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    @contextmanager
    def process(self) -> Iterator[_Process]:
        """Lend a process for one request; it is killed if the request fails. Raises `SandboxUnavailable`."""
        if not self._turns.acquire(timeout=TURN_WAIT_S):
            raise SandboxUnavailable(
                _("Too many templates are being checked or rendered at the same time."),
                hint=_("Try again in a minute."),
            )
        try:
            process = self._take()
            try:
                yield process
            except BaseException:
                self._discard(process)
                raise
            self._give_back(process)
        finally:
            self._turns.release()

    def close(self) -> None:
        for process in [*self._all]:
            self._discard(process)

    def forget(self) -> None:
        for process in self._all:
            process.forget()

    def pids(self) -> list[int]:
        return sorted(process.pid for process in self._all)

    def _take(self) -> _Process:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            try:
                process = _Process()
            except OSError as error:
                raise SandboxUnavailable(
                    _("The process that renders templates cannot be started: %(reason)s.") % {"reason": error.strerror}
                ) from error
            self._all.add(process)
            return process

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._idle.append(process)

    def _discard(self, process: _Process) -> None:
        with self._lock:
            self._all.discard(process)
            if process in self._idle:
                self._idle.remove(process)
        process.kill()


def ask(request: dict[str, object]) -> dict[str, Any]:
    """Compile or render a template within `LIMITS`; return the answer (see `prompts.sandbox_process`).

    If a limit ended the template, the answer's problem is "time", "memory", "length", "depth" or "crash". Raises
    `SandboxUnavailable` if there is no answer because of the machine, not the template.
    """
    # Each idle process may have been killed meanwhile.
    for _attempt in range(SANDBOXES_MAX + 1):
        try:
            with _pool.process() as process:
                answer, end = process.ask(request, LIMITS)
        except _Lost:
            continue
        except _Silent:
            break
        return _verdict(end) if answer is None else answer
    raise SandboxUnavailable(
        _("The process that renders templates did not answer."),
        hint=_("Try again; the machine may be out of memory."),
    )


def pids() -> list[int]:
    """Return the ids of the sandbox processes that this process started and has not ended."""
    return _pool.pids()


def _verdict(end: dict[str, Any]) -> dict[str, Any]:
    """Return the answer for a child that gave none if the template is to blame; else raise `SandboxUnavailable`."""
    number, cpu_s = end["signal"], end["cpu_s"]
    if number in (signal.SIGPROF, signal.SIGXCPU) or cpu_s >= LIMITS.cpu_s:
        return {"problem": "time"}
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        return {"problem": "crash"}
    if number == signal.SIGALRM and cpu_s >= BLAMED_CPU_S:
        return {"problem": "time"}
    raise SandboxUnavailable(
        _("The process that renders templates ended without a result."),
        hint=_("Try again; the machine may be overloaded."),
    )


def _wait_for(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise _Silent


def _reset_after_fork() -> None:
    """In a forked child: drop the parent's processes, and its locks, which a thread of the parent may hold."""
    global _pool  # noqa: PLW0603
    _pool.forget()
    _pool = _Pool()


def _end() -> None:
    _pool.close()


_pool = _Pool()
os.register_at_fork(after_in_child=_reset_after_fork)
atexit.register(_end)
