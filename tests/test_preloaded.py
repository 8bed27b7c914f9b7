"""Programs that are forked from a preloaded process behave like those that a new interpreter runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded

SHOW = """
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv,
    "name": __name__,
    "path": sys.path[0],
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "session": os.getsid(0) == os.getpid(),
    "umask": os.umask(0),
    "read": sys.stdin.read(),
    "encoding": sys.stdout.encoding,
    "files": sorted(os.listdir("/proc/self/fd")),
    "ours": sorted({name.split(".")[0] for name in sys.modules} & {"audit", "config", "runs", "tenants"}),
    "interrupt": str(signal.getsignal(signal.SIGINT)),
    "threads": len(os.listdir("/proc/self/task")),
}))
print("complaint", file=sys.stderr)
sys.exit(7)
"""


def shown(run: Any, folder: Path, *start: str, **keywords: Any) -> tuple[int, dict[str, Any], str]:
    ended = run(
        [sys.executable, *start, "a", "b c"],
        cwd=folder,
        env={**os.environ, "ONLY_HERE": "$x"},
        input="given",
        capture_output=True,
        text=True,
        check=False,
        **keywords,
    )
    return ended.returncode, json.loads(ended.stdout), ended.stderr


@pytest.mark.parametrize("kind", ["code", "module", "script"])
def test_a_program_finds_what_it_finds_in_a_new_interpreter(tmp_path: Path, kind: str) -> None:
    (tmp_path / "shows.py").write_text(SHOW)
    start = {"code": ["-c", SHOW], "module": ["-m", "shows"], "script": ["shows.py"]}[kind]
    before = os.umask(0o027)
    try:
        found = shown(preloaded.run, tmp_path, *start, start_new_session=True)
        expected = shown(subprocess.run, tmp_path, *start, start_new_session=True)
    finally:
        os.umask(before)
    assert found == expected
    assert (found[0], found[1]["umask"], found[1]["ours"], found[2]) == (7, 0o027, [], "complaint\n")


def test_it_is_our_child_and_forked() -> None:
    code = "import sys; print('celery' in sys.modules, flush=True); sys.stdin.read()"
    with preloaded.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        assert process.poll() is None
        assert os.waitpid(process.pid, os.WNOHANG) == (0, 0)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_what_is_read_at_the_start_gets_a_new_interpreter() -> None:
    code = "import sys; print('celery' in sys.modules, sys.flags.dev_mode)"
    shown = preloaded.run([sys.executable, "-c", code], env={**os.environ, "PYTHONDEVMODE": "1"}, capture_output=True)
    assert shown.stdout == b"False True\n"
