"""`cluster set-restore-command` sets the command that fetches WAL from another tool's archive; the audit entry omits
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.control.models import ControlAuditLog
from tenants.models import DatabaseServer

COMMAND = 'TOKEN=sesame pgbackrest --stanza=main archive-get %f "%p"'


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    server = DatabaseServer.objects.filter(pk="main")
    server.update(wal_restore_command="")
    yield
    server.update(wal_restore_command="")


def run(*arguments: str) -> Any:
    out = StringIO()
    call_command("cluster_set_restore_command", "--server", "main", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def present() -> str:
    return DatabaseServer.objects.get(pk="main").wal_restore_command


def test_it_is_set_once_and_removed_with_entries_that_do_not_hold_it() -> None:
    last = ControlAuditLog.objects.order_by("-id").values_list("id", flat=True)[0]
    assert run("--command", COMMAND) == {"server": "main", "set": True, "changed": True}
    assert present() == COMMAND
    assert run("--command", COMMAND)["changed"] is False
    assert run("--none") == {"server": "main", "set": False, "changed": True}
    assert present() == ""
    entries = ControlAuditLog.objects.filter(id__gt=last, action="server.change").order_by("id")
    assert [entry.details for entry in entries] == [
        {"fields": ["wal_restore_command"], "set": True},
        {"fields": ["wal_restore_command"], "set": False},
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cp /archive/%f somewhere", "must contain %f"),
        ("cp /archive/file %p", "must contain %f"),
        ("fetch %f %p %x", "The only other placeholders allowed are %r"),
        ("fetch %f %p %", "The only other placeholders allowed are %r"),
        ("fetch %f %p\nrm -r /", "one line"),
    ],
)
def test_a_command_that_could_fetch_nothing_is_refused(command: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("--command", command)
    assert present() == ""


def test_an_unknown_server_is_named() -> None:
    with pytest.raises(CommandError, match="There is no database server 'nowhere'"):
        call_command("cluster_set_restore_command", "--server", "nowhere", "--none")


def test_people_are_told_what_holds_now(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--command", COMMAND], ["--command", COMMAND], ["--none"]):
        call_command("cluster_set_restore_command", "--server", "main", *arguments)
    told = capsys.readouterr().out
    assert "was set" in told and "Nothing changed" in told and "was removed" in told
    assert "sesame" not in told
