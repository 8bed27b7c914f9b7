"""A Celery worker whose process group is frozen (SIGSTOP) at a chosen point of a step.

A point is just before a statement or commit in a tenant's database, or just before something in the storage is linked,
renamed, removed or, if it is a folder, made. In the folder FREEZE_FOLDER, the test writes to `plan` at which point to
stop (its number, or a part of its name). The worker writes the name of that point to `frozen`, and a line to `done` at
the end of each task.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.signals import task_postrun, task_prerun, worker_init
from django.db.backends.signals import connection_created

from config.celery import app as app
from tenants.naming import TENANT_PREFIX

FOLDER = Path(os.environ["FREEZE_FOLDER"])
FILE_EVENTS = ("os.link", "os.rename", "os.remove", "os.mkdir")


class Points:
    def __init__(self) -> None:
        self.plan = ""
        self.count = 0

    def begin(self, **_signal: Any) -> None:
        plan = FOLDER / "plan"
        self.plan, self.count = plan.read_text() if plan.exists() else "", 0

    def end(self, **_signal: Any) -> None:
        self.plan = ""
        with (FOLDER / "done").open("a") as done:
            done.write("done\n")

    def reach(self, name: str) -> None:
        if not self.plan:
            return
        self.count += 1
        if self.plan == str(self.count) or (not self.plan.isdigit() and self.plan in name):
            self.plan = ""
            (FOLDER / "frozen").write_text(name)
            os.killpg(os.getpgrp(), signal.SIGSTOP)


points = Points()
task_prerun.connect(points.begin)
task_postrun.connect(points.end)


def statement(execute: Callable[..., Any], query: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    points.reach(str(query))
    return execute(query, params, many, context)


def watch(connection: Any, **_signal: Any) -> None:
    if connection.alias.startswith(TENANT_PREFIX):
        connection.execute_wrappers.append(statement)


connection_created.connect(watch)


def of_files(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FILE_EVENTS and any("/storage/" in str(argument) for argument in arguments):
        points.reach(f"{event} {Path(str(arguments[0])).name}")


@worker_init.connect
def watch_process(**_signal: Any) -> None:
    """Make each commit and each operation of `FILE_EVENTS` in the storage a point."""
    from tenants.routing.backend.base import DatabaseWrapper

    backend: Any = DatabaseWrapper
    commit = backend._commit

    def reached(self: Any) -> Any:
        points.reach("COMMIT")
        return commit(self)

    backend._commit = reached
    sys.addaudithook(of_files)
