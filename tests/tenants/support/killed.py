"""Processes that are killed at a chosen step of an operation on a tenant."""

from __future__ import annotations

import os
import pkgutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from config.stack.paths import CHECKOUT
from tenants.types import Progress
from tests.support.forked import forked


def die_at(step: str, service: str, **keywords: Any) -> None:
    """Call the service in a separate process, and `kill -9` it at the step."""
    with forked(_call_and_die, step, service, keywords) as (process, heard):
        process.join()
        problem = heard.recv() if process.exitcode != -signal.SIGKILL and heard.poll() else ""
        assert process.exitcode == -signal.SIGKILL, problem or f"{service} has no step {step}"


@contextmanager
def begun(service: str, **keywords: Any) -> Iterator[ForkServerProcess]:
    """Yield a process that has started the service; kill it at the end of the block."""
    with forked(_call_and_say, service, keywords) as (process, heard):
        assert heard.recv() == "begun"
        yield process


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def _call_and_die(said: Connection, step: str, service: str, keywords: dict[str, Any]) -> None:
    def die(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    _service_called(service)(**keywords, on_progress=die)


def _call_and_say(said: Connection, service: str, keywords: dict[str, Any]) -> None:
    """Send "begun" at the first step, and continue."""
    begun: list[Progress] = []

    def say(progress: Progress) -> None:
        if not begun:
            begun.append(progress)
            said.send("begun")

    _service_called(service)(**keywords, on_progress=say)


def _service_called(name: str) -> Callable[..., Any]:
    [path] = (path for path in (CHECKOUT / "tenants").rglob("*.py") if f"\ndef {name}(" in path.read_text())
    module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    return pkgutil.resolve_name(f"{module}:{name}")  # type: ignore[no-any-return]
