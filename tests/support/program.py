"""Run `seo-gen` as a separate program, and return its output and exit status."""

import os
import pty
import subprocess
import sys
from dataclasses import dataclass

from config.stack.paths import CHECKOUT
from tests.support import preloaded

PROGRAM = (sys.executable, "-c", "import sys; from config.cli import main; sys.exit(main())")


def seo_gen(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program without any input, on the session's servers unless `environment` says otherwise."""
    return preloaded.run(
        [*PROGRAM, *words],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def seo_gen_piped(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program with `given` on a pipe as its standard input; the result's output is in bytes."""
    return preloaded.run([*PROGRAM, *words], cwd=CHECKOUT, input=given, capture_output=True, check=False)


@dataclass(frozen=True)
class AtTerminal:
    returncode: int
    # A pipe, as in `seo-gen … > file`.
    stdout: str
    # What the screen shows: stderr, and what was typed.
    screen: str


def seo_gen_at_terminal(*words: str, typed: str) -> AtTerminal:
    """Run the program at a terminal with one typed line. Its standard output is a pipe, as if it were redirected."""
    ours, terminal = pty.openpty()
    try:
        program = preloaded.Popen(
            [*PROGRAM, *words], cwd=CHECKOUT, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal
        )
        os.close(terminal)
        # The line waits in the terminal until it is read.
        os.write(ours, f"{typed}\n".encode())
        screen = _read_all(ours)
        stdout, _nothing = program.communicate()
    finally:
        os.close(ours)
    return AtTerminal(program.returncode, stdout.decode(), screen)


def _read_all(terminal: int) -> str:
    read = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # EIO: the other end is closed
            return read.decode()
        read += chunk
