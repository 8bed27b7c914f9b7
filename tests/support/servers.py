"""More servers for tests, in addition to the session's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import stack
from tests.support import privileges, superuser
from tests.support.environment import NO_LLM, POSTGRES_OPTIONS

# Never contacted: they only keep `ensure_started` from starting those servers, too.
ELSEWHERE = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:9/0",
    "CACHE_URL": "redis://127.0.0.1:9/1",
    "LOCAL_LLM_URL": NO_LLM,
}


@contextmanager
def second_postgres(folder: Path, options: str = "") -> Iterator[str]:
    """Run a separate PostgreSQL server with additional `options` ("name=value …"); yield its administrator's URL."""
    home = stack.find_home(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ELSEWHERE.items():
            patch.setenv(name, value)
        patch.setenv("SEO_GEN_POSTGRES_OPTIONS", f"{POSTGRES_OPTIONS} {options}".strip())
        stack.ensure_started(home)
        url = stack.settings_from_stack(home)["TENANT_SERVER_URL"]
    superuser.know(home)
    try:
        yield url
    finally:
        stack.stop(home)
        assert privileges.Watch(home).overstepped() == []


@contextmanager
def embedded_llm(folder: Path) -> Iterator[str]:
    """Run the embedded LLM alone, in a home of its own; yield its URL."""
    home = stack.find_home(folder)
    database = "postgresql://127.0.0.1:9/none"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "TENANT_SERVER_URL"):
            patch.setenv(name, database)
        for name in ("CELERY_BROKER_URL", "CACHE_URL"):
            patch.setenv(name, ELSEWHERE[name])
        patch.delenv("LOCAL_LLM_URL")
        stack.ensure_started(home)
        url = stack.settings_from_stack(home)["LOCAL_LLM_URL"]
    try:
        yield url
    finally:
        stack.stop(home)
