"""The process from which `tests.support.preloaded` forks programs. It imports only packages that are not ours."""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import types
from collections.abc import Sequence
from typing import Any

# What most programs import: slow packages, none of which reads our settings or starts a thread.
PACKAGES = (
    *("django.core.management", "django.db.backends.postgresql.base", "django.forms"),
    *("django.core.cache.backends.redis", "django.template.defaulttags", "django.contrib.postgres.fields"),
    *("celery.apps.worker", "celery.bin.worker", "celery.bin.celery", "celery.concurrency.thread"),
    *("celery.backends.redis", "kombu.transport.redis", "psycopg.types.json", "psycopg_pool", "psutil", "rich.table"),
    *("cryptography.fernet", "environ", "jinja2.sandbox", "openai.resources.chat", "pydantic"),
    # What commands load while they set Django up, read backups and write tables.
    *("django.core.mail", "django.views.generic", "django.views.debug", "django.middleware.csrf", "django.utils.log"),
    *("django.contrib.auth.hashers", "django.contrib.auth.password_validation", "django.contrib.auth.validators"),
    *("django.contrib.auth.apps", "django.contrib.contenttypes.apps", "django.contrib.postgres.operations"),
    *("django.contrib.postgres.functions", "django.db.migrations.executor", "django.utils.translation.reloader"),
    *("rich.console", "rich._emoji_codes", "botocore.exceptions", "pyrage", "tarfile", "email.policy"),
    # What workers and web servers load.
    *("kombu.transport.pyamqp", "celery.fixups.django", "celery.app.log", "celery.contrib.django.task"),
    *("celery.worker.components", "celery.worker.autoscale", "celery.worker.consumer.agent", "billiard.pool"),
    *("django.contrib.admin", "django.contrib.postgres.aggregates", "django.contrib.staticfiles.storage"),
    *("django.contrib.sessions.middleware", "django.contrib.messages.middleware", "django.middleware.locale"),
    *("django.core.management.commands.migrate", "django.views.defaults", "whitenoise.middleware", "jwt"),
    *("cryptography.hazmat.primitives.twofactor.totp", "segno", "nh3", "markdown_it"),
)


def serve(control: socket.socket) -> None:
    """Fork a process for each request and answer with its id, until the other end is closed. In the forked process, run
    the program, then return.
    """
    while True:
        size, files, _flags, _address = socket.recv_fds(control, 8, 3)
        if not size:
            return
        message = b""
        while len(message) < int.from_bytes(size, "big"):
            message += control.recv(65536)
        request = json.loads(message)
        told, tells = os.pipe()
        middle = os.fork()
        if not middle:
            os.close(told)
            pid = os.fork()
            if pid:
                os.write(tells, pid.to_bytes(8, "big"))
                os._exit(0)
            os.close(tells)
            control.close()
            _become(request, files)
            return
        os.close(tells)
        # Only after the process in between has ended is the program a child of the tests' process.
        os.waitpid(middle, 0)
        with open(told, "rb") as answer:
            control.sendall(answer.read(8))
        for file in files:
            os.close(file)


def _become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Turn this process into the program; return when it ends, so that Python ends as it always does."""
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _open_standard_files(files)
    _run(request["args"])


def _open_standard_files(files: Sequence[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # As Python names it, not as `open` does.
    encoding = sys.stdout.encoding
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _output(1, encoding)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _output(2, encoding, errors="backslashreplace", line_buffering=True)  # type: ignore[misc]


def _output(number: int, encoding: str, errors: str = "strict", *, line_buffering: bool = False) -> Any:
    opened: Any = open(number, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    opened.reconfigure(line_buffering=line_buffering or os.isatty(number))
    return opened


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if words[0] == "-c":
        sys.argv, source, name = ["-c", *words[2:]], words[1], "<string>"
        sys.path[0] = ""
    else:
        sys.argv, name = words, words[0]
        main.__file__ = name
        sys.path[0] = os.path.dirname(os.path.abspath(name))
        with open(name, encoding="utf-8") as file:
            source = file.read()
    exec(compile(source, name, "exec"), main.__dict__)


def _preload() -> None:
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    # A process would copy the memory of what is collected.
    gc.freeze()
    gc.disable()


if __name__ == "__main__":
    # Ctrl-C is for the tests, and then for the programs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
