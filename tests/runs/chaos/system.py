"""The processes of an installation: start them, kill or freeze them, and replace those that have ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from config import stack
from config.stack import process
from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from config.stack.state import load_state
from tests.runs.chaos.plan import Plan

PATIENCE_S = 120.0
CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "config.celery")
# What a process says if it starts without a broker.
NO_BROKER = "does not answer"


@dataclass
class Member:
    """The process of a worker or of beat, and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    was_killed: bool = False
    was_frozen: bool = False
    # Whether it was told to end.
    is_dismissed: bool = False

    @property
    def serves(self) -> bool:
        return self.process.poll() is None and not self.is_dismissed

    def dismiss(self) -> None:
        """Send the process SIGTERM, as an operator does to end it."""
        self.is_dismissed = True
        self.process.terminate()


class System:
    """The servers of one home, with the workers and beat that use them."""

    def __init__(self, home: stack.Home, plan: Plan) -> None:
        self.home = home
        self.plan = plan
        # Every worker and beat that ever ran, those still running last.
        self.members: list[Member] = []
        # When PostgreSQL was killed or frozen, and when it answered again (wall clock).
        self.database_gaps: list[tuple[float, float]] = []
        # Processes that ended unasked, or did not end when asked; there should be none.
        self.deserters: list[str] = []

    # -- workers and beat -------------------------------------------------------------------------------------------

    def start_worker(self, *, wait: bool = False) -> Member:
        name = f"worker-{len(self.members)}"
        options = ["worker", "--loglevel", "INFO", "--concurrency", str(self.plan.concurrency)]
        return self._start(name, *options, "--hostname", f"{name}@chaos", wait=wait)

    def start_beat(self) -> Member:
        return self._start(f"beat-{len(self.members)}", "beat", "--loglevel", "INFO", "--pidfile=", wait=False)

    def living(self, kind: str) -> list[Member]:
        return [one for one in self.members if one.name.startswith(kind) and one.serves]

    def keep_up(self) -> None:
        """Start the servers that have stopped, and those of the plan's workers and the one beat that are missing.

        List in `deserters` the workers and beats that ended by themselves.
        """
        stack.start(self.home, [])
        self.deserters = [one.name for one in self.members if self._has_deserted(one)]
        for _missing in range(self.plan.workers - len(self.living("worker"))):
            self.start_worker()
        if not self.living("beat"):
            self.start_beat()

    def _has_deserted(self, member: Member) -> bool:
        """Return whether the process ended although it was neither killed nor dismissed.

        One that gives up while starting because the broker is down does not count.
        """
        if member.process.poll() is None or member.was_killed or member.is_dismissed:
            return False
        return self._ready_file(member.name).exists() or NO_BROKER not in member.log.read_text()

    def _ready_file(self, name: str) -> Path:
        return self.home.path / f"{name}.ready"

    def _start(self, name: str, *options: str, wait: bool) -> Member:
        log, ready = self.home.path / f"{name}.log", self._ready_file(name)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*CELERY, *options],
                cwd=CHECKOUT,
                env={**os.environ, "SEO_GEN_READY_FILE": str(ready)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        member = Member(name, process, log)
        self.members.append(member)
        if wait and not wait_until(ready.exists, PATIENCE_S):
            raise RuntimeError(f"{name} did not start:\n{log.read_text()}")
        return member

    def kill(self, member: Member) -> None:
        member.was_killed = True
        os.killpg(member.process.pid, signal.SIGKILL)
        member.process.wait()

    def freeze(self, member: Member, seconds: float) -> None:
        member.was_frozen = True
        os.killpg(member.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.killpg(member.process.pid, signal.SIGCONT)

    # -- servers ----------------------------------------------------------------------------------------------------

    def kill_server(self, name: str) -> None:
        begun = time.time()
        for one in list(self._processes(name)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._wait_until_gone(name)
        stack.start(self.home, [])
        self._note_gap(name, begun)

    def freeze_server(self, name: str, seconds: float) -> None:
        begun = time.time()
        processes = list(self._processes(name))
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        time.sleep(seconds)
        for one in reversed(processes):
            with suppress(psutil.NoSuchProcess):
                one.resume()
        self._note_gap(name, begun)

    def _processes(self, name: str) -> Iterator[psutil.Process]:
        """Yield the server's processes, the main one first: once it is killed or frozen, it starts no others."""
        record = load_state(self.home).services[name].process
        assert record is not None
        main = psutil.Process(record.pid)
        yield main
        yield from main.children(recursive=True)

    def _wait_until_gone(self, name: str) -> None:
        record = load_state(self.home).services[name].process
        assert record is not None
        wait_until(lambda: process.alive(record) is None, PATIENCE_S)

    def _note_gap(self, name: str, begun: float) -> None:
        if name == "postgres":
            self.database_gaps.append((begun, time.time()))

    # -- the end ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Dismiss all workers and beat; kill those that do not end in time, and list them in `deserters`."""
        for one in self.members:
            if one.serves:
                one.dismiss()
        for one in self.members:
            try:
                one.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.deserters.append(f"{one.name} (did not stop)")
                self.kill(one)

    def kill_all(self) -> None:
        for one in self.members:
            if one.process.poll() is None:
                os.killpg(one.process.pid, signal.SIGCONT)
                self.kill(one)

    def copy_logs(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for log in (*self.home.path.glob("*.log"), *(self.home.path / "log").glob("*.log")):
            shutil.copy(log, folder)
