"""Prepare what a command needs: the embedded servers, and a control database that matches this code."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from config import stack
from config.stack.lifecycle import is_started
from config.stack.paths import CHECKOUT
from config.stack.state import load_state, locked, save_state

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
APPS = ("audit", "config", "llm", "prompts", "runs", "tenants")
DATABASE_VARIABLES = ("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL")


def is_prepared(home: stack.Home | None = None) -> bool:
    """Return whether a command can run without starting or setting up anything."""
    home = home or stack.find_home()
    return is_started(home) and _fingerprint(home) in ("", load_state(home).control_fingerprint)


def servers(home: stack.Home | None = None) -> None:
    """Start the embedded servers that are not running. Call this before the settings are read; it needs no Django."""
    home = home or stack.find_home()
    stack.ensure_started(home, announce)


def control_database(home: stack.Home | None = None) -> None:
    """Set up the embedded control database if it is new, has moved, or was last set up by different code.

    A control database named in the environment is left alone: its operator runs `control_setup`. Raises StackError.
    """
    home = home or stack.find_home()
    wanted = _fingerprint(home)
    if not wanted or load_state(home).control_fingerprint == wanted:
        return
    with locked(home, "setup"):
        if load_state(home).control_fingerprint == wanted:
            return
        announce("Preparing the control database")
        _run_control_setup(home)
        # The stack's own lock, since a start or stop may write the state at the same time.
        with locked(home):
            save_state(home, replace(load_state(home), control_fingerprint=wanted))


@contextmanager
def temporary_stack(home: stack.Home | None = None) -> Iterator[None]:
    """At the end of the block, however it ends, stop every service that was not running at its start.

    SIGTERM and SIGHUP end the block like Ctrl-C; all three are ignored from its end on.
    """
    home = home or stack.find_home()
    before = _running(home)
    for number in ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.stop(home, _running(home) - before, on_progress=announce)


def announce(text: str) -> None:
    """Print progress on stderr if it is a terminal."""
    if sys.stderr.isatty():
        print(f"{text} …", file=sys.stderr, flush=True)


def _running(home: stack.Home) -> set[str]:
    return {service.name for service in stack.status(home) if service.state == "running"}


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run_control_setup(home: stack.Home) -> None:
    """Set up the control database in a new process: this one may have read its settings before the servers started."""
    result = subprocess.run(
        [sys.executable, "manage.py", "control_setup"],
        cwd=CHECKOUT,
        env={**os.environ, "SEO_GEN_HOME": str(home.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip() or f"exit status {result.returncode}").splitlines()[-1]
        raise stack.StackError(f"The control database cannot be set up: {reason}", code="control_setup_failed")


def _fingerprint(home: stack.Home) -> str:
    """Return a hash of what the set-up of the control database depends on; "" if that database is not embedded.

    It covers the database URLs, migrations, package versions, and the code that fills tables.
    """
    provided = stack.settings_from_stack(home)
    if DATABASE_VARIABLES[0] not in provided:
        return ""
    digest = hashlib.sha256("".join(provided.get(name, "") for name in DATABASE_VARIABLES).encode())
    for path in sorted(_sources()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    seeds = ("llm/catalogue.py", "llm/services.py", "tenants/lifecycle/setup.py")
    migrations = (f"{app}/**/migrations/*.py" for app in APPS)
    return (path for pattern in ("requirements.txt", *migrations, *seeds) for path in CHECKOUT.glob(pattern))
