"""The real servers that the whole test session shares, in a temporary home, apart from the machine's own."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

from config import stack

PREFIX = "seo-gen-tests-"
# Nothing here outlives the machine, so nothing needs to reach the disk; killed processes still lose nothing.
# Tests of recovery start servers of their own, which archive (tests/servers.py).
# Who logged in is looked at in the end (tests/privileges.py).
POSTGRES_OPTIONS = "fsync=off archive_mode=off summarize_wal=off log_connections=on"
# Whatever the developer's shell says about servers, storage and keys must not leak into tests.
CLEARED = (
    *("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL", "CELERY_BROKER_URL", "CACHE_URL", "LOCAL_LLM_URL"),
    *("SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS", "STORAGE_ROOT", "DEBUG", "ALLOWED_HOSTS", "CELERY_QUEUE"),
    *("LOG_FORMAT", "LOG_LEVEL"),
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
FIXED_PORT = re.compile(r"SEO_GEN_\w+_PORT")


def isolate(home: Path) -> None:
    """Point this process, and those it starts, at the temporary home."""
    for name in list(os.environ):
        if name in CLEARED or name.startswith(CLEARED_PREFIXES) or FIXED_PORT.fullmatch(name):
            del os.environ[name]
    os.environ["SEO_GEN_HOME"] = str(home)
    os.environ["SEO_GEN_POSTGRES_OPTIONS"] = POSTGRES_OPTIONS
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"


def start() -> stack.Home:
    """Start the session's servers; what a killed session left behind is removed first."""
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    isolate(folder)
    home = stack.find_home()
    stack.ensure_started(home)
    return home


def remove(home: stack.Home) -> None:
    stack.stop(home)
    shutil.rmtree(home.path, ignore_errors=True)


def _remove_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            remove(stack.find_home(folder))
