"""Programs that die the hard way at a chosen step of an operation on a tenant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from config.stack.paths import CHECKOUT

# Arguments: the service as "module:name", its keywords as JSON, the step.
CALL_AND_DIE = """
import django, json, os, pkgutil, signal, sys
django.setup()
def die(progress):
    if progress.step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
keywords = json.loads(sys.argv[2])
if "to_time" in keywords:
    from datetime import datetime
    keywords["to_time"] = datetime.fromisoformat(keywords["to_time"])
pkgutil.resolve_name(sys.argv[1])(**keywords, on_progress=die)
"""
# Says that it has begun, and goes on.
CALL_AND_SAY = """
import django, json, pkgutil, sys
django.setup()
said = []
def say(progress):
    if not said:
        said.append(progress)
        print("begun", flush=True)
pkgutil.resolve_name(sys.argv[1])(**json.loads(sys.argv[2]), on_progress=say)
"""


def die_at(step: str, service: str, **keywords: Any) -> None:
    """Call the service in a process of its own, and `kill -9` it at the step."""
    command = [sys.executable, "-c", CALL_AND_DIE, _place_of(service), json.dumps(keywords), step]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr or f"{service} has no step {step}"


def begun(service: str, **keywords: Any) -> subprocess.Popen[bytes]:
    """Return a process that has begun with the service; it is for the caller to kill."""
    command = [sys.executable, "-c", CALL_AND_SAY, _place_of(service), json.dumps(keywords)]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=dict(os.environ), stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    return process


def _place_of(service: str) -> str:
    """Return "module:name" of the service, for `pkgutil.resolve_name`."""
    [module] = (
        path.stem
        for path in (CHECKOUT / "tenants" / "services").glob("*.py")
        if f"\ndef {service}(" in path.read_text()
    )
    return f"tenants.services.{module}:{service}"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
