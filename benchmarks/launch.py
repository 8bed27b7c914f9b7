"""Run a program and report its time from start to exit, its processor time and its memory.

Until a forked process executes another program, its memory includes its parent's. So the measured program's parent must
be small: it is `python -m benchmarks.launch`, which prints one line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB = 1024


@dataclass(frozen=True)
class Ended:
    """The measurements of a program that succeeded."""

    # When it was started (time.time).
    started_at: float
    seconds: float
    # Processor time of the program itself, and of the kernel on its behalf.
    cpu_seconds: float
    # Peak resident memory.
    peak_bytes: int
    output: str


def run(arguments: Sequence[str], *, output: Path, log: Path, environment: Mapping[str, str]) -> Ended:
    """Run ARGUMENTS to completion, with stdout and stderr in files; raise if the program fails.

    `environment` is added to this process's variables.
    """
    from benchmarks.children import child

    with child(["-m", "benchmarks.launch", str(output), *arguments], log=log, environment=environment) as launcher:
        status, started_at, seconds, cpu_seconds, peak = json.loads(launcher.answer())
        launcher.finish()
    if status:
        raise RuntimeError(f"{arguments} exited with {status}:\n{log.read_text()[-2000:]}")
    return Ended(started_at, seconds, cpu_seconds, peak, output.read_text())


def main(output: str, *arguments: str) -> None:
    started_at, started = time.time(), time.perf_counter()
    with open(output, "w") as file:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    cpu_seconds = usage.ru_utime + usage.ru_stime
    answer = [os.waitstatus_to_exitcode(status), started_at, seconds, cpu_seconds, usage.ru_maxrss * KIB]
    print(json.dumps(answer), flush=True)
    process.returncode = status  # it is waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
