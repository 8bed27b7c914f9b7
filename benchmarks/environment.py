"""The servers that all benchmarks of a run share: the embedded stack in a temporary home, durable as by default."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from benchmarks.instant_llm import Observer, instant_llm
from config import stack

PREFIX = "seo-gen-bench-"
# Whatever else the shell says (servers, keys, options of PostgreSQL) is not what is measured.
KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TERM", "TMPDIR", "USER", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Environment:
    home: stack.Home
    llm: Observer
    # Of the embedded server's superuser.
    postgres_url: str
    # Of a database that nobody else uses.
    broker_url: str

    def log(self, name: str) -> Path:
        return self.home.log_file(name)

    def server(self) -> psycopg.Connection:
        """Return an administrator's connection, in autocommit; the caller closes it."""
        return psycopg.connect(self.postgres_url, autocommit=True)

    def create_database(self, name: str) -> str:
        """Create an empty database for a rival, and return its URL."""
        with self.server() as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self.postgres_url.rpartition("/")[0] + f"/{name}"


@contextmanager
def environment() -> Iterator[Environment]:
    """Start the servers and prepare the control database; end and remove everything afterwards."""
    _remove_leftovers()
    home = stack.Home(Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")).resolve())
    home.create()
    try:
        with instant_llm(home.log_file("instant_llm")) as llm:
            _isolate(home, llm)
            stack.ensure_started(home)
            _set_up()
            settings = stack.settings_from_stack(home)
            broker_url = settings["CELERY_BROKER_URL"].rpartition("/")[0] + "/2"
            yield Environment(home, llm, settings["TENANT_SERVER_URL"], broker_url)
    finally:
        _remove(home)


def _isolate(home: stack.Home, llm: Observer) -> None:
    """Point this process, and those it starts, at the temporary home."""
    for name in set(os.environ) - set(KEPT):
        del os.environ[name]
    os.environ.update(SEO_GEN_HOME=str(home.path), LOCAL_LLM_URL=llm.url, DJANGO_SETTINGS_MODULE="config.settings")


def _set_up() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("control_setup", verbosity=0, stdout=io.StringIO())


def _remove(home: stack.Home) -> None:
    stack.stop(home)
    shutil.rmtree(home.path, ignore_errors=True)


def _remove_leftovers() -> None:
    """Remove what a killed benchmark left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove(stack.Home(folder))
