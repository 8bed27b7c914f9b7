"""The embedded stack with real processes: start, repair, stop, side by side."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from config import stack
from config.stack import process
from config.stack.errors import PortTaken
from config.stack.paths import CHECKOUT
from config.stack.state import ServiceRecord, load_state, save_state

SERVERS = ["postgres", "valkey", "llm"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder. PostgreSQL's account loses access to pytest's folder when another session starts."""
    with tempfile.TemporaryDirectory(prefix="seo-gen-stack-") as folder:
        yield Path(folder)


@pytest.fixture
def home(folder: Path) -> Iterator[stack.Home]:
    """A new home, whose servers are stopped after the test."""
    home = stack.find_home(folder / "a home")
    yield home
    stack.stop(home)


@pytest.fixture(autouse=True)
def without_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an external LLM, so that tests of other servers are quick."""
    monkeypatch.setenv("LOCAL_LLM_URL", "http://elsewhere.example/v1")


@pytest.fixture
def every_server(without_llm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_LLM_URL")


@pytest.fixture
def only_valkey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an external PostgreSQL too, for tests of processes in general."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere.example/control")


def running(home: stack.Home) -> dict[str, int | None]:
    return {service.name: service.pid for service in stack.status(home) if service.state == "running"}


def test_start_starts_every_server_and_stop_ends_them(home: stack.Home, every_server: None) -> None:
    assert stack.ensure_started(home) == SERVERS
    pids = running(home)
    assert list(pids) == SERVERS
    assert stack.ensure_started(home) == []
    assert stack.stop(home) == list(reversed(SERVERS))
    assert running(home) == {}
    assert not any(process.alive(process.ProcessRecord(pid or 0, 0)) for pid in pids.values())
    assert stack.stop(home) == []


def test_ports_and_secrets_survive_a_restart(home: stack.Home) -> None:
    stack.ensure_started(home)
    before = stack.settings_from_stack(home)
    stack.stop(home)
    stack.ensure_started(home)
    assert stack.settings_from_stack(home) == before


def test_secrets_are_readable_by_their_owner_alone(home: stack.Home, only_valkey: None) -> None:
    stack.ensure_started(home)
    for path in (home.secrets_file, home.state_file, home.data("valkey") / "valkey.conf"):
        assert path.stat().st_mode & 0o077 == 0


def test_passwords_are_on_no_command_line_and_in_no_log(home: stack.Home, every_server: None) -> None:
    stack.ensure_started(home)
    secrets = json.loads(home.secrets_file.read_text()).values()
    command_lines = " ".join(
        word for running in psutil.process_iter(["cmdline"]) for word in running.info["cmdline"] or ()
    )
    logs = " ".join(path.read_text() for path in home.log_file("any").parent.iterdir())
    assert not [secret for secret in secrets if secret in command_lines or secret in logs]


def test_keys_of_providers_are_with_those_alone_who_need_them(
    home: stack.Home, every_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    stack.start(home, ["worker", "beat", "web"])
    with_key = [name for name, pid in running(home).items() if "OPENAI_API_KEY" in psutil.Process(pid).environ()]
    # The web server refuses to start a run that could not be paid for.
    assert with_key == ["worker", "web"]
    llm = psutil.Process(running(home)["llm"]).environ()
    assert not {"AWS_SECRET_ACCESS_KEY", "DATABASE_URL"} & set(llm)


def test_postgres_wants_a_password(home: stack.Home) -> None:
    stack.ensure_started(home)
    port = load_state(home).services["postgres"].port
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", password="")
    with psycopg.connect(stack.settings_from_stack(home)["TENANT_SERVER_URL"]) as server:
        shown = {name: server.execute(f"SHOW {name}").fetchone() for name in ("timezone", "max_prepared_transactions")}
    assert shown == {"timezone": ("UTC",), "max_prepared_transactions": ("2000",)}


def test_the_application_role_can_change_rows_but_not_tables(home: stack.Home) -> None:
    stack.ensure_started(home)
    settings = stack.settings_from_stack(home)
    with psycopg.connect(settings["DATABASE_OWNER_URL"]) as owner:
        owner.execute("CREATE TABLE things (id serial PRIMARY KEY, name text)")
    with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as app:
        app.execute("INSERT INTO things (name) VALUES ('a')")
        app.execute("UPDATE things SET name = 'b'")
        app.execute("DELETE FROM things")
        for statement in ("DROP TABLE things", "TRUNCATE things", "CREATE TABLE others (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)
    with pytest.raises(psycopg.OperationalError, match="does not have CONNECT privilege"):
        psycopg.connect(settings["DATABASE_URL"].replace("/seo_gen_control", "/postgres"))


def test_kill_9_of_every_server_is_repaired(home: stack.Home, every_server: None) -> None:
    stack.ensure_started(home)
    settings = stack.settings_from_stack(home)
    with psycopg.connect(settings["DATABASE_OWNER_URL"]) as owner:
        owner.execute("CREATE TABLE kept (id int)")
    for pid in running(home).values():
        os.kill(pid or 0, signal.SIGKILL)
    assert process.wait_until(lambda: not running(home), 5)
    assert stack.ensure_started(home) == SERVERS
    assert stack.settings_from_stack(home) == settings
    with psycopg.connect(settings["DATABASE_URL"]) as app:
        assert app.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_killed_bootstrap_is_redone(home: stack.Home) -> None:
    stack.ensure_started(home)
    state = load_state(home)
    save_state(home, type(state)(state.services))
    stack.start(home, [])
    assert load_state(home).postgres_bootstrap == state.postgres_bootstrap


def test_a_half_made_data_directory_is_made_anew(home: stack.Home) -> None:
    half_made = home.data("postgres") / "data.new-killed"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18")
    stack.ensure_started(home)
    assert not half_made.exists()


def test_a_lost_state_file_finds_the_running_server_again(home: stack.Home, only_valkey: None) -> None:
    stack.ensure_started(home)
    before = running(home)
    port = load_state(home).services["valkey"].port
    home.state_file.unlink()
    assert stack.ensure_started(home) == []
    assert running(home) == before
    assert load_state(home).services["valkey"].port == port


def test_a_recycled_process_id_is_neither_taken_for_ours_nor_killed(home: stack.Home, only_valkey: None) -> None:
    stack.ensure_started(home)
    record = load_state(home).services["valkey"]
    assert record.process
    stack.stop(home)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        recycled = ServiceRecord(record.port, process.ProcessRecord(stranger.pid, record.process.created - 60))
        save_state(home, load_state(home).with_service("valkey", recycled))
        assert running(home) == {}
        assert stack.stop(home) == []
        assert stranger.poll() is None
        stranger.kill()


def test_two_homes_run_side_by_side(home: stack.Home, folder: Path, only_valkey: None) -> None:
    other = stack.find_home(folder / "other")
    try:
        stack.ensure_started(home)
        stack.ensure_started(other)
        assert stack.settings_from_stack(home)["CACHE_URL"] != stack.settings_from_stack(other)["CACHE_URL"]
        stack.stop(other)
        assert list(running(home)) == ["valkey"]
    finally:
        stack.stop(other)


def test_a_port_taken_meanwhile_is_replaced(home: stack.Home, only_valkey: None) -> None:
    stack.ensure_started(home)
    port = load_state(home).services["valkey"].port
    stack.stop(home)
    with socket.create_server(("127.0.0.1", port)):
        assert stack.ensure_started(home) == ["valkey"]
        assert load_state(home).services["valkey"].port != port


def test_a_fixed_port_that_is_taken_is_refused_in_one_sentence(home: stack.Home, only_valkey: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Valkey cannot start: port {port} is in use by another program"):
            stack.start(home, [], ports={"valkey": port})
    assert running(home) == {}


def test_two_starts_at_once_start_one_stack(home: stack.Home, only_valkey: None) -> None:
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _number: stack.ensure_started(home), range(4)))
    assert sorted(map(len, started)) == [0, 0, 0, 1]
    assert len(list(process.marked(f"{home.path}|"))) == 1


def test_settings_lead_nowhere_before_the_first_start(home: stack.Home) -> None:
    settings = stack.settings_from_stack(home)
    assert "127.0.0.1:0/" in settings["DATABASE_URL"]
    assert not home.path.exists()


class TestArchive:
    @pytest.fixture(autouse=True)
    def as_it_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Leave WAL archiving enabled, as it is by default; the tests' own servers have it disabled."""
        monkeypatch.setenv("SEO_GEN_POSTGRES_OPTIONS", "fsync=off")

    def test_postgresql_archives_its_log_by_itself(self, home: stack.Home) -> None:
        stack.ensure_started(home)
        settings = stack.settings_from_stack(home)
        with psycopg.connect(settings["TENANT_SERVER_URL"], autocommit=True) as server:
            server.execute("SELECT pg_switch_wal()")
        archive = Path(settings["TENANT_SERVER_WAL_ARCHIVE"])
        assert process.wait_until(lambda: len(list(archive.glob("0*1"))) == 1, 30)
        assert archive == home.path / "postgres" / "wal" and archive.stat().st_mode & 0o077 == 0

    def test_the_archive_of_another_server_is_not_configured(
        self, home: stack.Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TENANT_SERVER_URL", "postgresql://elsewhere.example/postgres")
        assert "TENANT_SERVER_WAL_ARCHIVE" not in stack.settings_from_stack(home)

    def test_the_archive_of_a_lost_cluster_is_moved_aside(self, home: stack.Home) -> None:
        archive = home.path / "postgres" / "wal"
        archive.mkdir(parents=True)
        (archive / "000000010000000000000001").write_text("of another cluster")
        stack.ensure_started(home)
        [aside] = archive.parent.glob("wal.old-*")
        assert (aside / "000000010000000000000001").read_text() == "of another cluster"
        assert not (archive / "000000010000000000000001").exists()


def test_a_database_elsewhere_wants_keys_of_its_own(home: stack.Home, only_valkey: None) -> None:
    assert not {"DATABASE_URL", "DATABASE_OWNER_URL", "SECRET_KEY", "SEO_GEN_ENCRYPTION_KEYS"} & set(
        stack.settings_from_stack(home)
    )


def test_folders_of_root_alone_let_postgres_through(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root needs the other account")
    locked = folder / "locked"
    locked.mkdir(mode=0o700)
    home = stack.find_home(locked / "home")
    try:
        stack.ensure_started(home)
        assert locked.stat().st_mode & 0o007 == 0
    finally:
        stack.stop(home)


def test_a_broken_server_is_reported_in_one_sentence(home: stack.Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEO_GEN_POSTGRES_OPTIONS", "max_connections=nonsense")
    with pytest.raises(stack.StackError, match=r"PostgreSQL did not start: .*max_connections"):
        stack.ensure_started(home)


@pytest.mark.parametrize("options", ["fsync", "fsync=off 'max_connections=40"])
def test_options_that_are_no_pairs_are_refused_before_anything_starts(
    options: str, home: stack.Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEO_GEN_POSTGRES_OPTIONS", options)
    with pytest.raises(stack.StackError, match="must be pairs such as fsync=off, separated by spaces"):
        stack.ensure_started(home)


def test_commands_find_the_stack_of_their_home(home: stack.Home, only_valkey: None) -> None:
    stack.ensure_started(home)
    script = "from config import stack; print(stack.settings_from_stack()['CACHE_URL'])"
    environment = {**os.environ, "SEO_GEN_HOME": str(home.path)}
    found = subprocess.check_output([sys.executable, "-c", script], cwd=CHECKOUT, env=environment, text=True)
    assert found.strip() == stack.settings_from_stack(home)["CACHE_URL"]


def test_workers_start_after_the_servers_and_follow_a_moved_one(home: stack.Home) -> None:
    stack.start(home, ["beat"])
    beat = running(home)["beat"]
    stack.stop(home, ["valkey"])
    with socket.create_server(("127.0.0.1", load_state(home).services["valkey"].port)):
        assert stack.start(home, []) == ["valkey", "beat"]
    assert running(home)["beat"] != beat


def test_what_a_killed_web_server_leaves_behind_is_ended(home: stack.Home) -> None:
    stack.start(home, ["web"])
    workers = psutil.Process(running(home)["web"]).children(recursive=True)
    assert workers
    # Once the main process is gone, they would end by themselves.
    for child in workers:
        os.kill(child.pid, signal.SIGSTOP)
    os.kill(running(home)["web"] or 0, signal.SIGKILL)
    assert process.wait_until(lambda: "web" not in running(home), 5)
    assert stack.start(home, ["web"]) == ["web"]
    assert process.wait_until(lambda: all(process.gone(child) for child in workers), 5)
