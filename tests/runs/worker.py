"""A real Celery worker in a separate process, on the session's broker and databases."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import current_app
from django.db import connections

from config.stack.paths import CHECKOUT
from config.stack.process import wait_until
from tests.support import preloaded

# A limit in case of a hang, not a delay: tests wait for conditions.
PATIENCE_S = 120.0


@contextmanager
def worker(*options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with these Celery options and environment variables; kill it and its children at the end."""
    command = [sys.executable, "-m", "celery", "-A", "config.celery", "worker", "--concurrency", "2"]
    process = preloaded.Popen(
        [*command, "--loglevel", "WARNING", "--without-gossip", "--without-mingle", *options],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        wait_for(lambda: bool(current_app.control.ping(timeout=0.5, limit=1)))
        yield process
    finally:
        kill(process)


class Watched:
    """A worker with its log, on the session's broker unless `environment` says otherwise; the caller must kill it."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self._log, ready = folder / "worker.log", folder / "worker.ready"
        with self._log.open("wb") as log:
            self.process = preloaded.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "config.celery", "worker"),
                    *("--hostname", "fuzzed@%h", "--loglevel", "INFO", *options),
                ],
                cwd=CHECKOUT,
                env={**os.environ, **environment, "SEO_GEN_READY_FILE": str(ready)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert wait_until(ready.exists, PATIENCE_S), self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[str]:
        return self.log.splitlines()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the worker and its children unless the worker has ended; wait until it has."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fail after `PATIENCE_S` seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    connections["default"].close_if_unusable_or_obsolete()
