"""Whatever a command, a page of the admin or a run changes has an entry, and does not happen without one.

A command, a model in the admin, one of its actions or addresses, or a transition of runs that stands in none of the
tables fails a test here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db import DatabaseError
from django.test import Client

from audit.actions import ACTIONS
from audit.models import AuditEntry
from config.cli import _our_commands
from config.command import operator_name
from config.errors import SeoGenError
from tenants.models import Backup, BackupStatus, Tenant
from tenants.selectors import batches_unfinished, operations_unfinished
from tests.admin.conftest import Filled, filled, superuser
from tests.audit.audited import REFUSAL, Mark, actions_of, log_refused, state
from tests.audit.commands import CASES, READ_ONLY, WITHOUT_A_LOG, World, run
from tests.audit.pages import CHANGES, WITHOUT_ENTRY, Staff, offered
from tests.runs.conftest import broker_queue

__all__ = ["broker_queue", "filled", "superuser"]

# Why they failed stands there; the error itself says less.
TOLD_ON_STDERR = ("cluster_receive_wal", "tenant_command")
# (command, an entry that is not its first).
LATER = [
    (name, action)
    for name, case in sorted(CASES.items())
    for action in case.control[1:]
    if name not in ("cluster_receive_wal", "demo")  # in the transaction of the first; other commands' services
]


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
    assert (actions_of(entries), actions_of(own)) == ({*case.control} - {"user.create"}, {*case.own})
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
    assert REFUSAL in str(refusal.value) or name in TOLD_ON_STDERR
    assert state(world.tenant, world.folder) == before


@pytest.mark.parametrize(("name", "action"), LATER)
def test_a_command_whose_later_entry_is_refused_fails_and_is_ended_with_an_entry(
    name: str, action: str, world: World
) -> None:
    case = CASES[name]
    arguments = case.arguments(world)
    mark = Mark.now(world.tenant)
    with log_refused(action=action), pytest.raises((DatabaseError, SeoGenError, CommandError)):
        case.run(name, arguments)
    run("tenant_recover", [])
    assert not operations_unfinished().exists() and not batches_unfinished().exists()
    assert not Backup.objects.filter(status=BackupStatus.RUNNING).exists()
    ended = {action, f"{case.control[0]}.undo", f"{case.control[0]}.fail"} & actions_of(mark.control_entries())
    assert ended, "neither done nor undone"


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_a_reading_command_changes_nothing(name: str, world: World) -> None:
    before = state(world.tenant, world.folder)
    with suppress(CommandError):  # it says that something is not well
        run(name, READ_ONLY[name](world))
    assert state(world.tenant, world.folder) == before


# -- the admin -----------------------------------------------------------------------------------------------------


@pytest.fixture
def at_the_browser(superuser: User, filled: Filled, request: pytest.FixtureRequest) -> Staff:
    client = Client(raise_request_exception=False)
    client.force_login(superuser)
    return Staff(client, superuser, filled, request)


def test_everything_that_the_admin_offers_is_in_the_table(superuser: User, tenant: Tenant) -> None:
    found = offered(superuser, tenant)
    assert found - set(CHANGES) - WITHOUT_ENTRY == set(), "changes that are in no table"
    assert set(CHANGES) - found == set(), "in the table, but not offered"


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_what_staff_change_is_recorded(name: str, at_the_browser: Staff) -> None:
    change = CHANGES[name].prepare(at_the_browser)
    mark = Mark.now(at_the_browser.tenant)
    change()
    entries, own = mark.control_entries(), mark.own_entries()
    assert bool(own) == name.startswith("tenant/") != bool(entries)
    assert CHANGES[name].action in actions_of([*entries, *own])
    require_complete([*entries, *own], f"staff:{at_the_browser.user.username}")


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_what_staff_change_does_not_happen_where_it_cannot_be_recorded(
    name: str, at_the_browser: Staff, folder: Path
) -> None:
    change = CHANGES[name].prepare(at_the_browser)
    before = state(at_the_browser.tenant, folder)
    with log_refused(at_the_browser.tenant if name.startswith("tenant/") else None):
        change()
    assert state(at_the_browser.tenant, folder) == before
