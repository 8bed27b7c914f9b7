"""Wrong usage is reported immediately, without starting a server."""

import argparse
import gc
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from django.core.management import load_command_class

from config import cli, prepare, stack
from tests.test_documentation import COMMANDS

pytestmark = pytest.mark.unit

NOTHING_STARTS = pytest.mark.parametrize("name", sorted(COMMANDS))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[stack.Home]:
    """A home that does not exist yet, for the test's commands; fail if they start servers or create it."""
    home = stack.find_home(tmp_path / "home")
    monkeypatch.setenv("SEO_GEN_HOME", str(home.path))
    # Fail at the next stage, which would otherwise take a minute.
    monkeypatch.setattr(prepare, "servers", lambda: pytest.fail("servers are started for it"))
    # `demo` never restores the signal handlers, since its process ends.
    handlers = {number: signal.getsignal(number) for number in prepare.ENDING_SIGNALS}
    yield home
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert not home.path.exists()


def run(name: str, *arguments: str) -> int:
    """Run `seo-gen noun verb` in this process, which has already loaded Django; return the exit status."""
    try:
        return cli.main([*name.split("_", 1), *arguments])
    except SystemExit as ending:
        return int(ending.code or 0)
    finally:
        # The program turns the garbage collector off, since its process ends soon. This process does not.
        gc.unfreeze()
        gc.enable()


def actions(name: str) -> list[argparse.Action]:
    return load_command_class(COMMANDS[name], name).create_parser("seo-gen", name)._actions


def spoken(name: str) -> str:
    return name.replace("_", " ", 1)


@NOTHING_STARTS
def test_an_unknown_option(name: str, empty_home: stack.Home, capfd: pytest.CaptureFixture[str]) -> None:
    if name == "migrate":
        return  # Django's, which only manage.py has
    assert run(name, "--no-such-option") == 2
    told = capfd.readouterr().err
    assert f"seo-gen {spoken(name)}" in told.replace("-", "_").replace("seo_gen", "seo-gen")
    assert "usage: " in told


@NOTHING_STARTS
def test_a_missing_option(name: str, empty_home: stack.Home, capfd: pytest.CaptureFixture[str]) -> None:
    if name != "migrate" and any(action.required and action.option_strings for action in actions(name)):
        assert run(name) == 2
        assert "required: " in capfd.readouterr().err


@NOTHING_STARTS
def test_a_bad_choice_or_number(name: str, empty_home: stack.Home, capfd: pytest.CaptureFixture[str]) -> None:
    for action in actions(name) if name != "migrate" else ():
        if action.option_strings and (action.choices or action.type is int):
            assert run(name, action.option_strings[0], "no-such-choice") == 2
            assert "invalid" in (told := capfd.readouterr().err), told


def test_the_fork_that_looks_changes_nothing_for_a_command_that_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEO_GEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(prepare, "servers", lambda: (_ for _ in ()).throw(stack.StackError("would start now")))
    assert run("tenant_list") == 1


@pytest.mark.parametrize("words", [["nonsense"], ["shell", "--nonsense"], ["tenant_create"]])
def test_so_does_manage_py(words: list[str], empty_home: stack.Home, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) if words == ["nonsense"] else nullcontext():
        assert cli.manage(["manage.py", *words]) == 2
    assert "nonsense" in (told := capfd.readouterr().err) or "--name" in told


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("tenant_restore --tenant-id a --undo --as b", "--undo puts back a tenant's own database"),
        ("tenant_restore --tenant-id a --backup-file x --from-erased reason", "--from-erased requires --as"),
        ("tenant_backup --tenant-id a --output - --json", "--json and --output - both write"),
        ("tenant_export --tenant-id a --output - --json", "--json and --output - both write"),
        ("audit_export --control --output - --json", "--json and --output - both write"),
        ("backup_prune --days -1", "--days must be 0 or more."),
    ],
)
def test_options_that_contradict_each_other(
    arguments: str, problem: str, empty_home: stack.Home, capfd: pytest.CaptureFixture[str]
) -> None:
    name, *words = arguments.split()
    assert run(name, *words) == 1
    printed = capfd.readouterr()
    assert problem in (printed.out if "--json" in words else printed.err)
