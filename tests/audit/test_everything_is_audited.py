"""Whatever a command, a page of the admin or a run changes has an entry, and does not happen without one.

A command, a model in the admin, one of its actions or addresses, or a transition of runs that stands in none of the
tables fails a test here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import CommandError
from django.db import DatabaseError

from audit.actions import ACTIONS
from audit.models import AuditEntry
from config.cli import _our_commands
from config.command import operator_name
from tenants.models import Tenant
from tests.audit.audited import REFUSAL, Mark, actions_of, log_refused, state
from tests.audit.commands import CASES, READ_ONLY, WITHOUT_A_LOG, World, run
from tests.runs.conftest import broker_queue

__all__ = ["broker_queue"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "compared"
    made.mkdir()
    return made


@pytest.fixture
def world(tenant: Tenant, folder: Path, request: pytest.FixtureRequest) -> World:
    return World(tenant, folder, request)


def require_complete(entries: list[AuditEntry], actor: str) -> None:
    """Each entry says who, what, on which resource, and in which operation: one for all of them."""
    for entry in entries:
        assert entry.user_id == actor
        assert entry.action in ACTIONS
        assert entry.resource_type and entry.resource_id
    assert len({entry.operation_id for entry in entries}) == 1 and entries[0].operation_id


# -- commands ------------------------------------------------------------------------------------------------------


def test_every_command_is_in_one_of_the_tables() -> None:
    tables = [set(CASES), set(READ_ONLY), WITHOUT_A_LOG]
    assert sorted(name for table in tables for name in table) == sorted(_our_commands())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_command_is_recorded(name: str, world: World) -> None:
    case = CASES[name]
    arguments = case.arguments(world)
    mark = Mark.now(world.tenant)
    case.run(name, arguments)
    entries, own = mark.control_entries(), mark.own_entries()
    if name == "demo":
        # The login is no part of the command's own operation here.
        assert entries.pop().action == "user.create"
    assert (actions_of(entries), actions_of(own)) == (case.control - {"user.create"}, case.own)
    require_complete([*entries, *own], f"operator:{operator_name()}")


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_command_that_cannot_be_recorded_does_nothing(name: str, world: World) -> None:
    case = CASES[name]
    arguments = case.arguments(world)
    before = state(world.tenant, world.folder)
    with (
        log_refused(None if case.control else world.tenant),
        pytest.raises((DatabaseError, CommandError)) as refusal,
    ):
        case.run(name, arguments)
    assert REFUSAL in str(refusal.value) or name == "cluster_receive_wal"
    assert state(world.tenant, world.folder) == before


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_a_reading_command_changes_nothing(name: str, world: World) -> None:
    before = state(world.tenant, world.folder)
    with suppress(CommandError):  # it says that something is not well
        run(name, READ_ONLY[name](world))
    assert state(world.tenant, world.folder) == before
