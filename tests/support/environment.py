"""The real servers that the whole test session shares, in a temporary home, apart from the machine's own."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

from config import stack

PREFIX = "seo-gen-tests-"
# In memory, databases are created and dropped several times as fast as on a disk. A session may need this much of it.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 6 * 2**30
# Nothing here outlives the machine, so nothing needs to reach the disk; killed processes still lose no data.
# Tests of recovery start servers of their own, which archive (tests/support/servers.py).
# Logins are checked at the end (tests/support/privileges.py).
POSTGRES_OPTIONS = (
    "fsync=off full_page_writes=off wal_init_zero=off archive_mode=off summarize_wal=off log_connections=on"
    " scram_iterations=1"  # each login would take two milliseconds more
)
# Whatever the developer's shell says about servers, storage and keys must not leak into tests.
CLEARED = (
    *("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL", "CELERY_BROKER_URL", "CACHE_URL", "LOCAL_LLM_URL"),
    *("SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS", "STORAGE_ROOT", "DEBUG", "ALLOWED_HOSTS", "CELERY_QUEUE"),
    "CELERY_QUEUE_TYPE",
    *("LOG_FORMAT", "LOG_LEVEL"),
    # A program that tests start would compile all of the product each time.
    "PYTHONDONTWRITEBYTECODE",
)
CLEARED_PREFIXES = (
    "ANTHROPIC_",
    "AWS_",
    "GEMINI_",
    "GOOGLE_",
    "LLM_",
    "OPENAI_",
    "PG",
    "RUN_",
    "SECURE_",
    "SESSION_",
    "TENANT_",
)
# Nothing listens there.
NO_LLM = "http://127.0.0.1:9/v1"
# The environment that the session begins with.
at_start: dict[str, str] = {}
FIXED_PORT = re.compile(r"SEO_GEN_\w+_PORT")


def isolate(home: Path) -> None:
    """Point this process, and those it starts, at the temporary home; clear the shell's settings for the product."""
    for name in list(os.environ):
        if name in CLEARED or name.startswith(CLEARED_PREFIXES) or FIXED_PORT.fullmatch(name):
            del os.environ[name]
    os.environ["SEO_GEN_HOME"] = str(home)
    os.environ["SEO_GEN_POSTGRES_OPTIONS"] = POSTGRES_OPTIONS
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    # So that refusals come soon in tests.
    os.environ["OPERATION_WAIT_S"] = "1"
    # The LLM takes hundreds of megabytes, and only the demonstration uses it, in a home of its own.
    os.environ["LOCAL_LLM_URL"] = NO_LLM


def remember() -> None:
    """Remember in `at_start` the environment in which the settings were read."""
    at_start.update((name, value) for name, value in os.environ.items() if not name.startswith("PYTEST_"))


def start() -> stack.Home:
    """Start the session's servers, after removing what killed sessions left behind; return their home."""
    home = start_nothing()
    try:
        stack.ensure_started(home)
    except BaseException:
        remove(home)
        raise
    return home


def start_nothing() -> stack.Home:
    """Remove what killed sessions left behind; create the session's home, point this process at it, and return it."""
    _remove_leftovers()
    # The product's temporary files are on the same file system as the final ones.
    os.environ["TMPDIR"] = tempfile.tempdir = str(_parent())
    isolate(Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")))
    return stack.find_home()


def remove(home: stack.Home) -> None:
    stack.stop(home)
    shutil.rmtree(home.path, ignore_errors=True)


def _parent() -> Path:
    """Return the temporary folder, or a folder in memory if TMPDIR is not set and the latter has enough space and
    allows programs to run.
    """
    if os.environ.get("TMPDIR") or not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK | os.X_OK):
        return Path(tempfile.gettempdir())
    if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:  # tests write programs, and run them
        return Path(tempfile.gettempdir())
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return MEMORY if free > MEMORY_BYTES else Path(tempfile.gettempdir())


def _remove_leftovers() -> None:
    folders = {MEMORY, Path(tempfile.gettempdir())}
    for folder in (found for parent in folders for found in parent.glob(f"{PREFIX}*-*")):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            remove(stack.find_home(folder))
