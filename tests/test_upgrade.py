"""An installation of an earlier release works with this one, once its fleet is migrated.

The program runs in a home restored from tests/installations, on servers of its own. The tests tell one story, in this
order: recover and migrate, inspect what is there, process old messages, continue working, and finally erase a customer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from config import stack
from config.stack.process import wait_until
from config.stack.state import load_state
from tests.installations.store import CONTROL, FACTS, MESSAGES, QUEUE, program_environment, revive, server_url
from tests.runs.fake_llm import FakeLLM
from tests.support import privileges
from tests.support.program import seo_gen
from tests.support.superuser import superuser_url

STORED = Path(__file__).with_name("installations") / "2026-11-26"
TENANTS = ("coffee", "tea")
# The tenant whose creation was interrupted, and has been finished meanwhile.
RECOVERED = "cut-off"
PATIENCE_S = 60.0
# What holds names of apps, models and migrations.
NAMES = {
    "django_migrations": "SELECT app || '.' || name FROM django_migrations",
    "django_content_type": "SELECT app_label || '.' || model FROM django_content_type",
    "auth_permission": (
        "SELECT app_label || '.' || codename"
        " FROM auth_permission JOIN django_content_type AS type ON content_type_id = type.id"
    ),
}
TENANT_NAMES = {name: NAMES[name] for name in ("django_migrations",)}


class Installation:
    def __init__(self, home: stack.Home, environment: Mapping[str, str]) -> None:
        self.home = home
        self.facts: dict[str, Any] = json.loads((STORED / FACTS).read_text())
        self._environment = {**environment, "SEO_GEN_HOME": str(home.path)}

    def do(self, *words: str) -> Any:
        """Run the program with --json, and return its document."""
        ended = seo_gen(*words, "--json", **self._environment)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stdout}{ended.stderr}"
        return json.loads(ended.stdout)

    def do_all(self, *lines: str) -> list[Any]:
        """Run commands, two at a time, and return their documents; the commands must not affect each other."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda line: self.do(*line.split()), lines))

    def start(self, name: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self._environment.items():
                patch.setenv(variable, value)
            stack.start(self.home, [name])

    def log(self, name: str) -> str:
        return self.home.log_file(name).read_text()

    def send(self, messages: list[dict[str, Any]]) -> None:
        """Put messages into the broker as they were stored there."""
        url = stack.settings_from_stack(self.home)["CELERY_BROKER_URL"]
        with redis.Redis.from_url(url) as broker:
            for message in messages:
                broker.lpush(QUEUE, json.dumps(message))

    def names(self, database: str, queries: Mapping[str, str]) -> dict[str, set[str]]:
        with psycopg.connect(superuser_url(server_url(self.home), database)) as connection:
            return {table: {row[0] for row in connection.execute(query.encode())} for table, query in queries.items()}

    def database_of(self, tenant_id: str) -> str:
        [found] = [tenant for tenant in self.do("tenant", "list") if tenant["id"] == tenant_id]
        return str(found["database_url"].rpartition("/")[2])

    def status_of(self, run_id: str, tenant_id: str = "coffee") -> str:
        return str(self.do("run", "show", "--tenant-id", tenant_id, "--run-id", run_id)["status"])


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    llm = FakeLLM()
    environment = program_environment(llm)
    made_in = json.loads((STORED / FACTS).read_text())["home"]
    with tempfile.TemporaryDirectory(prefix="seo-gen-upgrade-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_LLM_URL", llm.url)
        home = stack.find_home(folder)
        try:
            revive(STORED, home, llm, made_in)
            yield Installation(home, environment)
        finally:
            stack.stop(home)
            llm.close()
        assert privileges.Watch(home).overstepped() == []


def test_the_control_database_is_prepared_and_keeps_every_name(installation: Installation) -> None:
    before = installation.names(CONTROL, NAMES)
    assert load_state(installation.home).control_fingerprint == ""
    installation.do("tenant", "list")
    assert load_state(installation.home).control_fingerprint != ""
    after = installation.names(CONTROL, NAMES)
    assert {table: names - after[table] for table, names in before.items()} == {table: set() for table in NAMES}


def test_an_interrupted_operation_is_recovered(installation: Installation) -> None:
    ended = installation.do("tenant", "recover")
    assert [(one["tenant_id"], one["kind"], one["outcome"]) for one in ended] == [(RECOVERED, "create", "finished")]


def test_the_fleet_is_migrated(installation: Installation) -> None:
    database = installation.database_of("tea")
    names = installation.names(database, TENANT_NAMES)
    migrated = installation.do("tenant", "migrate", "--all")
    assert (migrated["tenant_count"], migrated["problems"]) == (3, [])
    assert migrated["pending_count"] > 0
    assert installation.names(database, TENANT_NAMES)["django_migrations"] > names["django_migrations"]
    assert installation.do("tenant", "migrate", "--all")["pending_count"] == 0


def test_it_says_what_it_said_before(installation: Installation) -> None:
    said: dict[str, Any] = installation.facts["said"]
    made_in = installation.facts["home"]
    for (words, expected), found in zip(said.items(), installation.do_all(*said), strict=True):
        # Only the catalogue's folder has changed; certificates still name the old one.
        moved = json.dumps(expected).replace(made_in, str(installation.home.path))
        assert differences(json.loads(moved) if words.startswith("backup list") else expected, found) == [], words


def test_proofs_of_the_earlier_release_hold(installation: Installation) -> None:
    audit, erasures, backups, states = installation.do_all(
        "audit verify --all", "erasure verify --all", "backup verify --all", "tenant status --check"
    )
    assert {log["log"] for log in audit["logs"]} == {"control", "tenant", "archive"}
    assert [log["problems"] for log in audit["logs"] if log["problems"]] == []
    assert all(log["anchors"] for log in audit["logs"] if log["tenant_id"] in (*TENANTS, "gone"))
    assert [(one["tenant_id"], one["holds"], one["problems"]) for one in erasures] == [("gone", True, [])]
    assert sorted((backup["tenant_id"], backup["problem"]) for backup in backups) == [(one, "") for one in TENANTS]
    found = {state["id"]: (state["schema_state"], state["drift"], state["problem"]) for state in states}
    assert {one: found[one] for one in TENANTS} == {one: ("current", [], None) for one in TENANTS}


def test_messages_of_the_earlier_release_are_understood(installation: Installation) -> None:
    messages = json.loads((STORED / MESSAGES).read_text())
    wake_ups = [message for message in messages if message["headers"]["task"] == "runs.execute_step"]
    others = [message for message in messages if message not in wake_ups]
    assert wake_ups and len(others) == 3
    run_id = installation.facts["waiting_run"]
    assert installation.status_of(run_id) == "pending"
    # Nothing except the scheduler would wake it.
    installation.send(wake_ups)
    installation.start("worker")
    assert wait_until(lambda: installation.status_of(run_id) == "completed", PATIENCE_S, step_s=1), installation.log(
        "worker"
    )
    installation.send(others)
    for message in others:
        done = f"{message['headers']['id']}] succeeded"
        assert wait_until(lambda done=done: done in installation.log("worker"), PATIENCE_S), installation.log(  # type: ignore[misc]
            "worker"
        )


def test_a_new_run_completes(installation: Installation) -> None:
    config = json.dumps({"keyword": "green tea", "language": "en"})
    run = installation.do("run", "create", "--tenant-id", "tea", "--config", config, "--wait")
    assert run["status"] == "completed" and run["cost"]["total_llm_cost"] > 0


def test_the_scheduler_continues_from_its_file(installation: Installation) -> None:
    installation.start("beat")
    assert wait_until(lambda: "Sending due task runs.sweep" in installation.log("beat"), PATIENCE_S)
    assert "Traceback" not in installation.log("beat")
    stack.stop(installation.home, ["beat"])


def test_an_old_backup_is_restored_and_that_undone(installation: Installation) -> None:
    [backup] = installation.do("backup", "list", "--tenant-id", "coffee")
    runs = installation.do("run", "list", "--tenant-id", "coffee")
    words = ("tenant", "restore", "--tenant-id", "coffee", "--confirm")
    restored = installation.do(*words, "--backup-file", backup["file"])
    assert restored["lost_runs"] == [installation.facts["waiting_run"]]
    assert (restored["missing_files"], restored["drift"]) == ([], [])
    installation.do(*words, "--undo")
    assert without_age(installation.do("run", "list", "--tenant-id", "coffee")) == without_age(runs)


def test_a_restore_of_the_earlier_release_is_undone_and_the_customer_erased(installation: Installation) -> None:
    words = ("--tenant-id", "tea", "--confirm")
    returned = installation.do("tenant", "restore", *words, "--undo", "--stop-runs")["returned_runs"]
    assert len(returned) == 1
    assert installation.do("tenant", "delete", *words)["status"] == "completed"
    erasures, audit = installation.do_all("erasure verify --all", "audit verify --all")
    assert {erasure["tenant_id"]: erasure["problems"] for erasure in erasures} == {"gone": [], "tea": []}
    assert [log["problems"] for log in audit["logs"] if log["problems"]] == []
    assert not list(installation.home.path.glob("backups/tea-*"))


def without_age(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in run.items() if name != "age_s"} for run in runs]


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Return where `found` differs from `expected`; ignore additional keys and changes that are to be expected."""
    if isinstance(expected, dict) and expected.get("id") == RECOVERED:
        return []
    if isinstance(expected, dict) and isinstance(found, dict):
        return [one for key in expected for one in differences(expected[key], found.get(key), f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [one for number, pair in pairs for one in differences(*pair, f"{where}[{number}]")]
    # A run without tokens costs nothing if its prices are known, and not an unknown sum.
    if where.endswith(".cost.total_llm_cost") and expected is None:
        expected = 0.0
    # Its server has the port of today's home.
    if where.endswith(".database_url"):
        expected, found = expected.rpartition("/")[2], found.rpartition("/")[2]
    return [] if expected == found else [f"{where}: {expected!r} became {found!r}"]
