"""Child processes of a benchmark. Each is stopped at the end of its block."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# Where `make bench` installs benchmarks/requirements.txt, apart from the product's own packages.
RIVALS = Path(sys.prefix) / "share" / "benchmarks"
END_WAIT_S = 10.0


class Missing(Exception):
    """The packages that the benchmarks compare the product with are not installed."""


def require_rivals() -> None:
    """Raise `Missing` unless `make bench` has installed benchmarks/requirements.txt. Only DBOS is looked for."""
    if not (RIVALS / "dbos").is_dir():
        raise Missing(f"{RIVALS} lacks the packages of benchmarks/requirements.txt; `make bench` installs them.")


@dataclass(frozen=True)
class Child:
    """A child process with a pipe in each direction."""

    process: "subprocess.Popen[str]"
    log: Path

    def answer(self, request: str = "") -> str:
        """Send the line, if one is given, and return the reply; raise if the process exits instead."""
        assert self.process.stdout is not None
        if request:
            self.send(request)
        line = self.process.stdout.readline()
        if not line:
            raise self._failure()
        return line.strip()

    def send(self, request: str) -> None:
        """Send a line. Read the reply with `answer`."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Wait until the process exits; raise if it failed."""
        if self.process.wait():
            raise self._failure()

    def _failure(self) -> RuntimeError:
        return RuntimeError(f"{self.process.args!r} ended:\n{self.log.read_text()[-2000:]}")


@contextmanager
def child(arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run `python ARGUMENTS` and append its stderr to `log`; at the end, stop it and everything that it started.

    `environment` sets variables; the value "" removes one.
    """
    paths = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(RIVALS)])}
    variables = {**os.environ, **paths, **(environment or {})}
    with log.open("a") as messages:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=CHECKOUT,
            env={name: value for name, value in variables.items() if value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,
        )
    try:
        yield Child(process, log)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_WAIT_S)
    with suppress(ProcessLookupError):
        # Whatever is left of its session: the pool of a worker that did not end in time.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
