"""Make an installation with this release's program, and store it as test data (README.md).

.venv/bin/python -m tests.installations.make tests/installations/2026-11-26
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from config import stack
from config.stack.paths import CHECKOUT
from config.stack.postgres import SUPERUSER, binaries_folder
from config.stack.process import wait_until
from config.stack.state import load_secrets, load_state
from tests.installations.store import CONTROL, FACTS, HOME, MESSAGES, QUEUE, SERVER, program_environment
from tests.runs.fake_llm import Answer, FakeLLM
from tests.support import environment, superuser
from tests.support.program import PROGRAM, seo_gen
from tests.support.servers import ELSEWHERE

# What the home needs in addition to its databases; logs and the servers' own folders are left out.
KEPT = ("secrets.json", "stack.json", "celerybeat-schedule*", "storage", "backups")
PATIENCE_S = 60.0
MAKES_DATABASE = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND wait_event_type = 'Lock'"
COFFEE = {"keyword": "コーヒーミル", "audience": "初心者"}
TEA = {"keyword": "green tea", "language": "en"}
# The shortest steps, to keep the stored data small.
STEPS = ["keyword_analysis", "outline"]
OUTLINE = (
    "Outline an article about {{ keyword }} for a tea shop, in {{ language }}. It builds on: {{ keyword_analysis }}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to make")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="seo-gen-installation-") as folder:
        environment.isolate(Path(folder))
        os.environ["LOCAL_LLM_URL"] = ELSEWHERE["LOCAL_LLM_URL"]
        home = stack.find_home()
        try:
            _Maker(home, output).run()
        finally:
            stack.stop(home)


class _Maker:
    def __init__(self, home: stack.Home, output: Path) -> None:
        self.home = home
        self.output = output
        self.llm = FakeLLM()
        # What the program reports about the installation, by command line.
        self.said: dict[str, Any] = {}
        self.facts: dict[str, Any] = {"home": str(home.path), "said": self.said}

    def run(self) -> None:
        try:
            os.environ.update(program_environment(self.llm))
            self.fill()
        finally:
            self.llm.close()

    def fill(self) -> None:
        stack.ensure_started(self.home)
        superuser.know(self.home)
        self.do("tenant", "create", "--name", "Coffee & Co.", "--id", "coffee")
        self.do("tenant", "create", "--name", "緑茶の店", "--id", "tea")
        self.do("tenant", "create", "--name", "Gone Ltd.", "--id", "gone")
        self.do("step", "route", "--step", "draft", "--provider", "openai", "--model-class", "pro")
        with self.control() as control:
            control.execute("UPDATE llm_providers SET api_base_url = %s WHERE id = 'openai'", [self.llm.url])
        self._write_prompt()
        # The scheduler as well, for the file that it leaves.
        stack.start(self.home, ["worker", "beat"])
        self._work()
        stack.stop(self.home, ["worker", "beat"])
        self._back_up()
        self.do("audit", "anchor")
        self.do("tenant", "delete", "--tenant-id", "gone", "--confirm")
        self.do("audit", "anchor")
        self._leave_messages()
        self._cut_off_creation()
        self._ask()
        self._store()

    # -- what is in it ---------------------------------------------------------------------------------------------

    def _write_prompt(self) -> None:
        """Give the tenant "tea" a prompt that the others do not have."""
        import django

        django.setup()
        from prompts.services import prompt_activate, prompt_create
        from tenants.routing.context import tenant_context

        names = ("keyword", "language", "keyword_analysis")
        variables: list[dict[str, object]] = [
            {"name": name, "type": "string", "description": f"the {name}", "required": True} for name in names
        ]
        with tenant_context("tea") as alias:
            prompt = prompt_create(alias=alias, step="outline", content=OUTLINE, variables=variables, note="ours")
            prompt_activate(alias=alias, prompt_id=prompt.pk)

    def _work(self) -> None:
        self.create_run("coffee", COFFEE, wait=True)
        self.create_run("coffee", {**TEA, "steps": STEPS}, wait=True)
        self.create_run("tea", TEA, wait=True)
        self.create_run("gone", {**TEA, "steps": STEPS}, wait=True)
        self.llm.answers.append(Answer(status=401, text="no such key"))
        self.create_run("tea", {**TEA, "steps": STEPS[:1]}, wait=True, fails=True)

    def create_run(self, tenant_id: str, config: dict[str, Any], *, wait: bool, fails: bool = False) -> str:
        words = ["run", "create", "--tenant-id", tenant_id, "--config", json.dumps(config), "--json"]
        document = self.do(*words, *(["--wait"] if wait else []), exit_status=int(fails))
        print(f"run {document['id']} of {tenant_id}: {document['status']}")
        return str(document["id"])

    def _back_up(self) -> None:
        backups = str(self.home.path / "backups")
        self.do("tenant", "backup", "--all", "--output", backups)
        self.do("tenant", "backup", "--tenant-id", "tea", "--output", backups, "--format", "plain")
        listed = self.do("backup", "list", "--tenant-id", "tea", "--json")
        [found] = [backup for backup in listed if backup["format"] == "custom"]
        self.do("run", "create", "--tenant-id", "tea", "--config", json.dumps({**TEA, "steps": STEPS}))
        self.do("tenant", "restore", "--tenant-id", "tea", "--backup-file", found["file"], "--confirm", "--stop-runs")

    def _leave_messages(self) -> None:
        """Leave a run that no worker has touched, and messages for four tasks in the broker; store the messages."""
        run_id = self.create_run("coffee", {**TEA, "keyword": "left waiting", "steps": STEPS}, wait=False)
        self.facts["waiting_run"] = run_id
        wake_up = json.dumps(["coffee", run_id, STEPS[0]])
        for words in (
            ["runs.execute_step", "--args", wake_up, "--countdown", "1"],
            ["runs.sweep"],
            ["tenants.audit_anchor"],
            ["tenants.backup_daily"],
        ):
            subprocess.run(
                [sys.executable, "-m", "celery", "--quiet", "-A", "config.celery", "call", *words],
                cwd=CHECKOUT,
                check=True,
                capture_output=True,
            )
        with self.broker() as broker:
            waiting: list[bytes] = broker.lrange(QUEUE, 0, -1)
        # The oldest is at the end.
        messages = [json.loads(raw) for raw in reversed(waiting)]
        (self.output / MESSAGES).write_text(json.dumps(messages, indent=1, ensure_ascii=False) + "\n")

    def _cut_off_creation(self) -> None:
        """Kill `tenant create`, and end its server process, in the middle of CREATE DATABASE."""
        words = [*PROGRAM, "tenant", "create", "--name", "Cut off", "--id", "cut-off"]
        with self.connect("postgres") as blocking, self.connect("postgres", autocommit=True) as looking:
            blocking.execute("LOCK TABLE pg_database IN SHARE MODE")
            with subprocess.Popen(words, cwd=CHECKOUT) as creating:
                assert wait_until(lambda: looking.execute(MAKES_DATABASE).fetchone() is not None, PATIENCE_S)
                creating.send_signal(signal.SIGKILL)
            # The server would continue the statement without its client.
            for [pid] in looking.execute(MAKES_DATABASE).fetchall():
                looking.execute("SELECT pg_terminate_backend(%s)", [pid])
            blocking.rollback()

    def _ask(self) -> None:
        """Store what this release reports about the installation; later releases must report the same."""
        questions = [["tenant", "list"], ["backup", "list", "--all"], ["erasure", "show", "--tenant-id", "gone"]]
        for tenant_id in ("coffee", "tea"):
            questions.append(["run", "list", "--tenant-id", tenant_id])
            for run in self.do("run", "list", "--tenant-id", tenant_id, "--json"):
                questions.append(["run", "show", "--tenant-id", tenant_id, "--run-id", run["id"]])
        for words in questions:
            self.said[" ".join(words)] = self.do(*words, "--json")

    # -- how it is stored ------------------------------------------------------------------------------------------

    def _store(self) -> None:
        stack.stop(self.home, ["valkey"])
        (self.output / FACTS).write_text(json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n")
        with lzma.open(self.output / SERVER, "wb", preset=9) as file:
            file.write(self._dump())
        stack.stop(self.home)
        with tarfile.open(self.output / HOME, "w:xz", preset=9) as archive:
            for path in (path for name in KEPT for path in sorted(self.home.path.glob(name))):
                archive.add(path, path.name, filter=_of_nobody)
        for path in sorted(self.output.iterdir()):
            print(f"{path}: {path.stat().st_size} bytes")

    def _dump(self) -> bytes:
        """Return the server's roles and databases as a script for psql.

        pg_dumpall skips databases that forbid connections, so templates are opened for it; the script closes them
        again.
        """
        with self.connect("postgres", autocommit=True) as server:
            names = "SELECT quote_ident(datname) FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'"
            closed = [name for [name] in server.execute(names)]
            for name in closed:
                server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        address = ["--host=127.0.0.1", f"--port={self.port}", f"--username={SUPERUSER}"]
        variables = {**os.environ, "PGPASSWORD": self.password, "PGAPPNAME": superuser.APPLICATION}
        command: list[str | Path] = [binaries_folder() / "pg_dumpall", *address, "--no-sync"]
        script = subprocess.run(command, env=variables, check=True, capture_output=True).stdout
        shut = "".join(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false;\n" for name in closed)
        return script + f"\\connect postgres\n{shut}".encode()

    # -- tools -----------------------------------------------------------------------------------------------------

    def do(self, *words: str, exit_status: int = 0) -> Any:
        """Run the program; return its document if the words contain --json, otherwise None."""
        ended = seo_gen(*words)
        assert ended.returncode == exit_status, f"{words}: {ended.stdout}{ended.stderr}"
        return json.loads(ended.stdout) if "--json" in words else None

    @property
    def port(self) -> int:
        return load_state(self.home).services["postgres"].port

    @property
    def password(self) -> str:
        secrets = load_secrets(self.home)
        assert secrets is not None
        return secrets.postgres_password

    def connect(self, database: str, *, autocommit: bool = False) -> psycopg.Connection:
        url = superuser.superuser_url(f"postgresql://127.0.0.1:{self.port}/{database}")
        return psycopg.connect(url, autocommit=autocommit)

    def control(self) -> psycopg.Connection:
        return self.connect(CONTROL)

    @contextmanager
    def broker(self) -> Iterator[Any]:
        import redis

        with redis.Redis.from_url(stack.settings_from_stack(self.home)["CELERY_BROKER_URL"]) as client:
            yield client


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
