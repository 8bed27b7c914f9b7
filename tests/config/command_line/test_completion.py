"""`seo-gen completion`: what real shells do with its scripts when people type at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.base.commands import our_commands, spoken
from tests.support.program import seo_gen

WAIT_S = 20.0
# How each shell is started without people's own settings, and how it loads the script.
SHELLS = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], "source {script}"),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit && compinit -u && source {script}"),
    "fish": (["fish", "--no-config", "-i"], "source {script}"),
}
ESCAPES = re.compile(rb"\x1b(\[[0-9;?>=]*[a-zA-Z]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>])|[\x00\x07\x08\r]")


class Terminal:
    """A shell with a terminal of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def shown_until(self, wanted: str) -> str:
        """Return what the terminal shows from now on until `wanted` appears; fail if it does not appear."""
        shown, deadline = b"", time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if select.select([self._descriptor], [], [], 0.1)[0]:
                shown += os.read(self._descriptor, 65536)
            # zsh prints a blank that it may remove again, and then another.
            text = re.sub(" +", " ", ESCAPES.sub(b"", shown).decode(errors="replace"))
            if wanted in text:
                return text
        pytest.fail(f"{wanted!r} is not shown: {ESCAPES.sub(b'', shown).decode(errors='replace')!r}")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    home = folder / "home"
    made = {}
    for shell in SHELLS:
        printed = seo_gen("completion", shell, SEO_GEN_HOME=str(home))
        assert (printed.returncode, printed.stderr) == (0, "")
        made[shell] = folder / f"seo-gen.{shell}"
        made[shell].write_text(printed.stdout)
    # It starts no server.
    assert not home.exists()
    return made


@contextmanager
def running(argv: list[str], folder: Path) -> Iterator[Terminal]:
    child, descriptor = pty.fork()
    if not child:
        os.chdir(folder)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TERM": "xterm",
            "PS1": "$ ",
            "LC_ALL": "C.UTF-8",
        }
        os.execvpe(argv[0], argv, environment)
    try:
        yield Terminal(descriptor)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(descriptor)


@pytest.fixture(params=sorted(SHELLS))
def terminal(request: pytest.FixtureRequest, scripts: dict[str, Path], tmp_path: Path) -> Iterator[Terminal]:
    argv, load = SHELLS[request.param]
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is not installed")
    (tmp_path / "a-backup.sql").touch()
    with running(argv, tmp_path) as opened:
        opened.type(load.format(script=scripts[request.param]) + " && echo lo''aded\n")
        opened.shown_until("loaded")
        yield opened


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("seo-gen eras", "seo-gen erasure "),
        ("seo-gen tenant rest", "seo-gen tenant restore "),
        ("seo-gen cluster set-", "seo-gen cluster set-restore-command "),
        ("seo-gen tenant backup --with-st", "seo-gen tenant backup --with-storage "),
        ("seo-gen tenant backup --format cus", "seo-gen tenant backup --format custom "),
        ("seo-gen demo --no-se", "seo-gen demo --no-serve "),
        ("seo-gen completion zs", "seo-gen completion zsh "),
        ("seo-gen tenant restore --backup-file a-ba", "seo-gen tenant restore --backup-file a-backup.sql "),
    ],
)
def test_a_partial_word_is_completed(terminal: Terminal, typed: str, completed: str) -> None:
    terminal.type(f"{typed}\t")
    # The shell may print only the rest.
    terminal.type("END")
    assert "END" in terminal.shown_until(f"{completed[len(typed) :]}END")


def test_bash_completes_a_choice_after_an_equals_sign(scripts: dict[str, Path], tmp_path: Path) -> None:
    argv, load = SHELLS["bash"]
    with running(argv, tmp_path) as terminal:
        terminal.type(f"{load.format(script=scripts['bash'])}\nseo-gen tenant backup --format=pl\tEND")
        terminal.shown_until("--format=plain END")


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_command_is_in_every_script(shell: str, scripts: dict[str, Path]) -> None:
    text = scripts[shell].read_text()
    assert [name for name in our_commands() if spoken(name) not in text] == []
    assert "--traceback" not in text
