"""`seo-gen` as a program of its own: its output and its exit status."""

import os
import subprocess
import sys

from config.stack.paths import CHECKOUT

PROGRAM = (sys.executable, "-c", "import sys; from config.cli import main; sys.exit(main())")


def seo_gen(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it with nothing to read, on the session's servers unless `environment` says otherwise."""
    return subprocess.run(
        [*PROGRAM, *words],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def seo_gen_piped(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it with a pipe to read, and return its output as bytes."""
    return subprocess.run([*PROGRAM, *words], cwd=CHECKOUT, input=given, capture_output=True, check=False)
