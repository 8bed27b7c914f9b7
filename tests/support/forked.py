"""Processes for tests to kill, which start fast: they are forked from one in which Django is already set up."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from tests.support import environment

# The server is started with the first process, and ends with the session. pytest is preloaded because each child
# imports the program that began the session.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "tests.support.forked_setup"])


@contextmanager
def forked(work: Callable[..., None], *arguments: object) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """Run `work(connection, *arguments)` in a process of its own; yield the process and our end of `connection`.

    The process has the settings that the session started with, and none of this process's database connections. It
    sends exceptions through the connection too, as text, and is killed at the end.
    """
    _require_the_sessions_environment()
    heard, said = _context.Pipe(duplex=False)
    process = _context.Process(target=_run, args=(work, said, *arguments))
    process.start()
    said.close()
    try:
        yield process, heard
    finally:
        process.kill()
        process.join()
        process.close()
        heard.close()


def _run(work: Callable[..., None], said: Connection, *arguments: object) -> None:
    try:
        work(said, *arguments)
    except BaseException:
        said.send(traceback.format_exc())
        raise


def _require_the_sessions_environment() -> None:
    now = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    changed = _different(now, environment.at_start)
    assert not changed, f"a forked process would not see what this test has set: {', '.join(changed)}"


def _different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
