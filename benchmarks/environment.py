"""The servers shared by all benchmarks: the embedded stack in a temporary home, with default durability."""

import fcntl
import io
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from benchmarks.engine.instant_llm import Observer, instant_llm
from config import stack
from config.stack.postgres import SUPERUSER
from config.stack.state import load_secrets, load_state

# Holds the homes of running benchmarks, each named after its process; removed when empty.
FOLDER = Path(tempfile.gettempdir()) / "seo-gen-benchmarks"
# ioctl_iflags(2); the flag is chattr's T.
GET_FLAGS, SET_FLAGS, TOP_OF_HIERARCHY = 0x80086601, 0x40086602, 0x00020000
# Other variables of the shell (servers, keys, PostgreSQL's options) must not affect the measurement.
KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TERM", "TMPDIR", "USER", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Environment:
    home: stack.Home
    llm: Observer
    # URL of the embedded server's superuser, which the product does not use.
    postgres_url: str
    # URL of a database for one rival alone.
    broker_url: str

    def log(self, name: str) -> Path:
        return self.home.log_file(name)

    def server(self) -> psycopg.Connection:
        """Return a superuser's connection in autocommit mode; the caller closes it."""
        return psycopg.connect(self.postgres_url, autocommit=True)

    def create_database(self, name: str) -> str:
        """Create an empty database for a rival; return its URL."""
        with self.server() as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self.postgres_url.rpartition("/")[0] + f"/{name}"


@contextmanager
def environment() -> Iterator[Environment]:
    """Start the servers and prepare the control database; stop the servers and remove their files afterwards."""
    _remove_leftovers()
    home = _new_home()
    try:
        with instant_llm(home.log_file("instant_llm")) as llm:
            _isolate(home, llm)
            stack.ensure_started(home)
            _set_up()
            settings = stack.settings_from_stack(home)
            broker_url = settings["CELERY_BROKER_URL"].rpartition("/")[0] + "/2"
            yield Environment(home, llm, _superuser_url(home), broker_url)
    finally:
        _remove(home)


def _superuser_url(home: stack.Home) -> str:
    """Return the superuser's URL, for rivals and bare programs, which do not use the product's roles."""
    secrets = load_secrets(home)
    assert secrets is not None
    port = load_state(home).services["postgres"].port
    return f"postgresql://{SUPERUSER}:{secrets.postgres_password}@127.0.0.1:{port}/postgres"


def _isolate(home: stack.Home, llm: Observer) -> None:
    """Point this process and its children to the temporary home, and remove all other variables except `KEPT`."""
    for name in set(os.environ) - set(KEPT):
        del os.environ[name]
    os.environ.update(SEO_GEN_HOME=str(home.path), LOCAL_LLM_URL=llm.url, DJANGO_SETTINGS_MODULE="config.settings")


def _set_up() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("control_setup", verbosity=0, stdout=io.StringIO())


def _new_home() -> stack.Home:
    """Return an empty home. On ext4, its files are kept apart from the others in the temporary folder.

    ext4 keeps a folder's files near those of its parent. It does not reuse a recently freed inode for some minutes, but
    searches past it. If other programs, or the previous benchmark, have just deleted files, creating a database's
    hundreds of files would take up to ten times as long. Subfolders of a "top of a hierarchy" are spread out instead.
    """
    FOLDER.mkdir(exist_ok=True)
    with suppress(OSError):  # another file system
        _mark_top_of_hierarchy(FOLDER)
    home = stack.Home((FOLDER / str(os.getpid())).resolve())
    home.create()
    return home


def _mark_top_of_hierarchy(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, GET_FLAGS, bytes(struct.calcsize("l"))))[0]
        fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", flags | TOP_OF_HIERARCHY))
    finally:
        os.close(descriptor)


def _remove(home: stack.Home) -> None:
    stack.stop(home)
    shutil.rmtree(home.path, ignore_errors=True)
    with suppress(OSError):  # others run
        FOLDER.rmdir()


def _remove_leftovers() -> None:
    """Remove the homes that killed benchmarks left behind, and stop the servers in them."""
    for folder in FOLDER.glob("*"):
        if folder.name.isdigit() and not psutil.pid_exists(int(folder.name)):
            _remove(stack.Home(folder.resolve()))
