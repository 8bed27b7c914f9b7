"""A read-only control database, as after a failover: commands that write report it on one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import stack
from tests.support.environment import POSTGRES_OPTIONS
from tests.support.program import seo_gen
from tests.support.servers import ELSEWHERE

CHANGING = [
    ("tenant", "create", "--name", "Somebody"),
    ("tenant", "migrate", "--all"),
    ("audit", "anchor"),
    ("control", "rotate"),
]
READ_ONLY = "-c default_transaction_read_only=on"


@contextmanager
def standby(folder: Path) -> Iterator[dict[str, str]]:
    """Set up a control database, then start its server again as a hot standby; yield the environment for commands."""
    home = stack.find_home(folder)
    environment = {
        **ELSEWHERE,
        "SEO_GEN_HOME": str(folder),
        "SEO_GEN_POSTGRES_OPTIONS": f"{POSTGRES_OPTIONS} hot_standby=on",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        set_up = seo_gen("control", "setup")
        assert set_up.returncode == 0, set_up.stderr
        listed = seo_gen("tenant", "list")
        assert listed.returncode == 0, listed.stderr
        stack.stop(home)
        signal_file = home.data("postgres") / "data" / "standby.signal"
        signal_file.touch()
        owner = signal_file.parent.stat()
        os.chown(signal_file, owner.st_uid, owner.st_gid)
        stack.ensure_started(home)
        try:
            yield environment
        finally:
            stack.stop(home)


def test_every_command_reports_a_standby(tmp_path: Path) -> None:
    with standby(tmp_path / "standby") as environment:
        for words in CHANGING:
            refused = seo_gen(*words, **environment)
            assert (refused.returncode, refused.stderr) == (
                1,
                "The control database is read-only: its server is a standby. Point DATABASE_URL to the primary.\n",
            ), words
        # Commands that only read work there.
        listed = seo_gen("tenant", "list", **environment)
        assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("words", CHANGING)
def test_read_only_sessions_are_one_sentence(words: tuple[str, ...]) -> None:
    refused = seo_gen(*words, PGOPTIONS=READ_ONLY)
    assert refused.returncode == 1
    assert refused.stderr == (
        "The control database is read-only: PGOPTIONS, its URL, its role, the database itself or its server sets"
        " default_transaction_read_only. Turn that setting off, or point DATABASE_URL to the primary.\n"
    )


def test_options_of_the_environment_break_nothing_else() -> None:
    hostile = "-c lock_timeout=1 -c idle_in_transaction_session_timeout=1 -c DateStyle=German"
    refused = seo_gen("tenant", "suspend", "--tenant-id", "nobody", PGOPTIONS=hostile)
    assert refused.stderr.startswith("There is no tenant 'nobody'."), refused.stderr
