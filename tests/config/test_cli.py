"""`seo-gen` as people use it: help, mistakes, exit codes and output streams."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import stack
from config.cli import without_credentials
from config.stack import process
from config.stack.paths import CHECKOUT
from tenants.models import Tenant
from tenants.servers.session import parse_location
from tests.support import preloaded, program
from tests.support.superuser import superuser_connection, superuser_url


@pytest.fixture
def quiet_home(tmp_path: Path) -> Iterator[stack.Home]:
    """A home in which no server was ever started."""
    home = stack.find_home(tmp_path / "home")
    yield home
    stack.stop(home)


def seo_gen(*words: str, home: stack.Home, **environment: str) -> subprocess.CompletedProcess[str]:
    return program.seo_gen(*words, SEO_GEN_HOME=str(home.path), **environment)


def test_help_lists_every_command_with_a_line_and_starts_nothing(quiet_home: stack.Home) -> None:
    shown = seo_gen("--help", home=quiet_home)
    assert shown.returncode == 0
    assert "  stack start " in shown.stdout
    assert "  tenant create " in shown.stdout
    assert all(len(line.split("  ")) > 2 for line in shown.stdout.splitlines() if line.startswith("  "))
    assert not quiet_home.path.exists()


def test_help_of_a_noun_lists_its_verbs_only(quiet_home: stack.Home) -> None:
    shown = seo_gen("stack", "--help", home=quiet_home)
    assert shown.returncode == 0
    assert "stack stop" in shown.stdout
    assert "tenant" not in shown.stdout


def test_help_of_a_command_shows_it_as_it_is_typed(quiet_home: stack.Home) -> None:
    shown = seo_gen("stack", "start", "--help", home=quiet_home)
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: seo-gen stack start ")
    assert not quiet_home.path.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], 'There is no command "nonsense". See seo-gen --help.'),
        (["stack", "explode"], 'There is no command "stack explode". Commands of "stack": start, status, stop.'),
    ],
)
def test_an_unknown_command_is_wrong_usage(quiet_home: stack.Home, words: list[str], sentence: str) -> None:
    refused = seo_gen(*words, home=quiet_home)
    assert (refused.returncode, refused.stdout, refused.stderr.strip()) == (2, "", sentence)


@pytest.mark.parametrize("words", [[], ["stack"]])
def test_an_unfinished_command_is_wrong_usage(quiet_home: stack.Home, words: list[str]) -> None:
    assert seo_gen(*words, home=quiet_home).returncode == 2


def test_a_wrong_option_is_wrong_usage(quiet_home: stack.Home) -> None:
    refused = seo_gen("stack", "status", "--nonsense", home=quiet_home)
    assert refused.returncode == 2
    assert "unrecognized arguments: --nonsense" in refused.stderr
    assert seo_gen("stack", "start", "--port", "web", home=quiet_home).returncode == 2
    assert seo_gen("stack", "start", "--port", "nonsense=1", home=quiet_home).returncode == 2


def test_json_is_one_document_and_progress_stays_off_a_pipe(stack_home: stack.Home) -> None:
    shown = seo_gen("stack", "status", "--json", home=stack_home)
    assert shown.stderr == ""
    services = {service["name"]: service for service in json.loads(shown.stdout)["services"]}
    assert services["postgres"]["state"] == "running"
    assert services["worker"]["state"] == "stopped"


def test_status_names_what_is_elsewhere(stack_home: stack.Home) -> None:
    shown = seo_gen("stack", "status", home=stack_home, LOCAL_LLM_URL="http://elsewhere.example/v1")
    assert "llm       external" in shown.stdout


def test_an_unreachable_database_is_reported_without_its_password(stack_home: stack.Home) -> None:
    address = f"postgresql://someone:hunter2@127.0.0.1:{process.free_port()}/nowhere"
    keys = {name: stack.settings_from_stack(stack_home)[name] for name in ("SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS")}
    refused = seo_gen("tenant", "list", home=stack_home, DATABASE_URL=address, **keys)
    assert refused.returncode == 1
    assert refused.stderr.startswith("A database connection or statement failed: ")
    assert "hunter2" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_missing_table_is_reported_for_the_database_that_lacks_it(tenant: Tenant, stack_home: stack.Home) -> None:
    location = parse_location(tenant.database_url)
    with superuser_connection(tenant.database_url, location.database) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE runs CASCADE")
    refused = seo_gen("run", "list", "--tenant-id", tenant.id, home=stack_home)
    assert refused.returncode == 1
    assert refused.stderr.startswith("A table is missing from a tenant's database: ")
    assert "seo-gen tenant status --check" in refused.stderr


def test_a_control_database_without_tables_is_reported_as_not_set_up(stack_home: stack.Home) -> None:
    given = stack.settings_from_stack(stack_home)
    empty = {**given, "DATABASE_URL": superuser_url(given["DATABASE_URL"], "template1")}
    refused = seo_gen("tenant", "list", home=stack_home, **empty)
    assert refused.returncode == 1
    assert refused.stderr.startswith("The control database is not set up for this release: ")
    assert "Run `seo-gen control setup`." in refused.stderr


def test_a_missing_key_is_reported_by_name(stack_home: stack.Home) -> None:
    refused = seo_gen("tenant", "list", home=stack_home, DATABASE_URL="postgresql://127.0.0.1/nowhere")
    assert refused.returncode == 1
    assert refused.stderr == "The configuration is invalid: Set the SECRET_KEY environment variable\n"


def test_a_taken_port_is_one_sentence(quiet_home: stack.Home, stack_home: stack.Home) -> None:
    port = stack.settings_from_stack(stack_home)["CACHE_URL"].rpartition(":")[2].partition("/")[0]
    refused = seo_gen("stack", "start", "--port", f"postgres={port}", home=quiet_home)
    assert refused.returncode == 1
    assert f"PostgreSQL cannot start: port {port} is in use by another program." in refused.stderr
    assert "Traceback" not in refused.stderr


def test_interrupting_ends_without_a_traceback(quiet_home: stack.Home) -> None:
    script = "import sys, os, signal; from config import cli, prepare\n"
    script += "prepare.servers = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
    script += "sys.exit(cli.main(['tenant', 'list']))"
    ended = preloaded.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGINT, "")


def test_a_worker_without_a_broker_says_so_and_ends(stack_home: stack.Home) -> None:
    broker = f"redis://:hunter2@127.0.0.1:{process.free_port()}/0"
    environment = {**os.environ, "SEO_GEN_HOME": str(stack_home.path), "CELERY_BROKER_URL": broker}
    command = [sys.executable, "-m", "celery", "-A", "config.celery", "worker", "--concurrency", "1"]
    ended = preloaded.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot be used" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_credentials_are_masked() -> None:
    text = 'cannot parse "postgresql://user:p@ss@host:5432/db" and redis://:pw@127.0.0.1:1/0'
    assert without_credentials(text) == 'cannot parse "postgresql://***@host:5432/db" and redis://***@127.0.0.1:1/0'


def test_an_unwritable_home_is_one_sentence(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    refused = seo_gen("tenant", "list", home=stack.find_home(occupied / "home"))
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert f"The stack's folder {occupied / 'home'} cannot be created or written to: Not a directory." in refused.stderr
