"""Every command: how to run it, and which entries the logs must have afterwards.

Each function under `@command` prepares what its command needs and returns the arguments; only entries written after
that count.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from config import demo
from config.stack.paths import CHECKOUT
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.services import prompt_create_active
from runs import storage
from runs.models import Run
from runs.selectors import run_document
from runs.services.cancel import run_cancel as cancel
from runs.services.create import run_create
from tenants.backup.backup import tenant_backup
from tenants.erasure.delete import tenant_delete as tenant_delete_service
from tenants.lifecycle.create import tenant_create as tenant_create_service
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Backup, BackupKind, BackupStatus, BaseBackup, DatabaseServer, Erasure, Tenant
from tenants.pitr.base_backup import cluster_backup as cluster_backup_service
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tests.audit.audited import as_superuser
from tests.config.site.sign_in.logging_in import enrol
from tests.llm.wire import allow_server
from tests.runs.fake_llm import Answer, FakeLLM
from tests.support import preloaded
from tests.support.staff import give_role, make_user, run_in_review
from tests.support.tenant_fixtures import remove_all
from tests.tenants.support.erased import forget_erasure

Arguments = list[str]
CONFIG = json.dumps({"keyword": "green tea", "language": "en"})
PROGRAM = "import sys; from config.cli import main; sys.exit(main())"

# Commands that only display, and why they need no entry. Showing a customer's texts does need one.
READ_ONLY: dict[str, Callable[[World], Arguments]] = {
    # The control database's own bookkeeping: names, sizes, states.
    "backup_list": lambda world: [],
    "cluster_status": lambda world: [],
    "erasure_list": lambda world: [],
    "erasure_show": lambda world: ["--tenant-id", world.tenant.id],
    "staff_list": lambda world: [],
    "tenant_list": lambda world: [],
    "tenant_status": lambda world: ["--tenant-id", world.tenant.id],
    # Shows what runs are about; inputs and outputs are shown by `run show`, which is recorded.
    "run_list": lambda world: ["--tenant-id", world.tenant.id],
    # Templates and their use; what runs made of them is shown by `run show`.
    "prompt_list": lambda world: ["--tenant-id", world.tenant.id],
    "prompt_show": lambda world: ["--tenant-id", world.tenant.id, "--step", "draft"],
    "prompt_diff": lambda world: ["--tenant-id", world.tenant.id, "--step", "draft", "--from", "1"],
    # Sums without inputs or outputs.
    "cost_show": lambda world: ["--tenant-id", world.tenant.id],
    # Processes of this machine.
    "stack_status": lambda world: [],
    # The commands' own options.
    "completion": lambda world: ["bash"],
}
# They start and stop the server that would hold the entry.
WITHOUT_A_LOG = frozenset({"stack_start", "stack_stop"})


@dataclass(frozen=True)
class World:
    """The objects that commands work on."""

    tenant: Tenant
    # Everything below it is compared.
    folder: Path
    request: pytest.FixtureRequest

    def afterwards(self, work: Callable[[], object]) -> None:
        self.request.addfinalizer(work)

    def backup(self) -> str:
        """Make a backup; return its file."""
        [outcome] = tenant_backup(tenant_id=self.tenant.id, output=str(self.folder / "backups"))
        assert outcome.backup is not None
        return f"{outcome.backup.place}/{outcome.backup.name}"

    def new_id(self) -> str:
        """Return the id of a tenant that the command will create; the tenant is removed afterwards."""
        tenant_id = f"made-{uuid4().hex[:12]}"
        self.afterwards(lambda: remove_all([tenant_id]))
        return tenant_id


def run_command(name: str, arguments: Arguments) -> None:
    call_command(name, *arguments, stdout=StringIO(), stderr=StringIO())


@dataclass(frozen=True)
class Case:
    arguments: Callable[[World], Arguments]
    # The actions recorded in the control log, and in the tenant's log.
    control: tuple[str, ...]
    own: tuple[str, ...]
    run: Callable[[str, Arguments], None]


CASES: dict[str, Case] = {}


def command(
    *control: str, own: tuple[str, ...] = (), run: Callable[[str, Arguments], None] = run_command
) -> Callable[[Callable[[World], Arguments]], None]:
    """Register the decorated function as the case of the command with its name (without a final "_")."""

    def enter(arguments: Callable[[World], Arguments]) -> None:
        CASES[arguments.__name__.rstrip("_")] = Case(arguments, control, own, run)

    return enter


@command("audit.anchor")
def audit_anchor(world: World) -> Arguments:
    return []


@command("audit.verify")
def audit_verify(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("audit.export")
def audit_export(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--output", str(world.folder / "log.jsonl")]


@command("backup.remove")
def backup_prune(world: World) -> Arguments:
    # Tenants left by other tests may be on servers that no longer exist.
    Backup.objects.exclude(tenant_id=world.tenant.id).update(status=BackupStatus.REMOVED)
    world.backup()
    world.backup()
    return ["--days", "0"]


@command("backup.verify")
def backup_verify(world: World) -> Arguments:
    return ["--file", world.backup()]


@command("cluster.backup", "cluster.backup.complete")
def cluster_backup(world: World) -> Arguments:
    place = str(world.folder / "base")
    world.afterwards(lambda: BaseBackup.objects.filter(place=place).delete())
    return ["--output", place]


@command("cluster.backup.verify")
def cluster_verify(world: World) -> Arguments:
    # Servers left by other tests may no longer exist; the tests' own server archives nothing.
    BaseBackup.objects.filter(parent__server="main").delete()
    BaseBackup.objects.filter(server="main").delete()
    place = str(world.folder / "base")
    world.afterwards(lambda: BaseBackup.objects.filter(place=place).delete())
    cluster_backup_service(output=place)
    return []


def _receive(name: str, arguments: Arguments) -> None:
    """Run the command as a program, and stop it once it is receiving."""
    words = [sys.executable, "-c", PROGRAM, *name.replace("_", " ", 1).replace("_", "-").split(), *arguments]
    with preloaded.Popen(words, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as receiving:
        assert receiving.stderr is not None
        begun = any(line.startswith("Receiving") for line in receiving.stderr)
        receiving.send_signal(signal.SIGTERM)
        # Its remaining output must not block it.
        receiving.stderr.read()
    if receiving.returncode or not begun:
        raise CommandError("it did not begin")


@command("cluster.wal.receive", "server.change", run=_receive)
def cluster_receive_wal(world: World) -> Arguments:
    def forget() -> None:
        DatabaseServer.objects.filter(pk="main").update(wal_archive="")
        with as_superuser() as connection:
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")

    DatabaseServer.objects.filter(pk="main").update(wal_archive="")
    world.afterwards(forget)
    return ["--server", "main", "--output", str(world.folder / "wal")]


@command("server.change")
def cluster_set_restore_command(world: World) -> Arguments:
    world.afterwards(lambda: DatabaseServer.objects.filter(pk="main").update(wal_restore_command=""))
    return ["--server", "main", "--command", "fetch %f %p"]


@command("control.rotate")
def control_rotate(world: World) -> Arguments:
    return []


@command("llm.catalogue.seed")
def control_setup(world: World) -> Arguments:
    # Migrations are recorded as control.setup: see tests/tenants/lifecycle/test_setup.py.
    LLMModel.objects.filter(provider_id="gemini").delete()
    return []


def _demo(name: str, arguments: Arguments) -> None:
    """Run the demo without a worker or a web server, then create its login."""

    def follow(home: object, runs: list[tuple[str, str]], on_progress: object) -> object:
        return [run_document(tenant_id=tenant_id, run_id=run_id) for tenant_id, run_id in runs]

    with (
        patch("config.stack.start"),
        patch("config.demo.follow", follow),
        patch("config.demo.succeeded", return_value=True),
    ):
        run_command(name, arguments)
    demo.new_login()


@command("tenant.create", "tenant.activate", "user.create", run=_demo)
def demo_(world: World) -> Arguments:
    from django.contrib.auth.models import User

    names = [customer.tenant_id for customer in demo.CUSTOMERS]
    world.afterwards(lambda: remove_all(names))
    world.afterwards(lambda: User.objects.filter(username=demo.LOGIN).delete())
    return ["--no-serve", "--json"]


@command("erasure.verify")
def erasure_verify(world: World) -> Arguments:
    gone = tenant_create_service(name=f"gone {uuid4().hex[:12]}")
    row = tenant_delete_service(tenant_id=gone.id)
    world.afterwards(lambda: forget_erasure(row))
    return ["--tenant-id", gone.id]


@command("llm.check")
def llm_check(world: World) -> Arguments:
    provider_answering(world.request)
    return ["--provider", "openai"]


def provider_answering(request: pytest.FixtureRequest) -> None:
    """Let a fake server answer in place of the provider "openai"."""
    fake = FakeLLM()
    request.addfinalizer(fake.close)
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    patch.setenv("OPENAI_API_KEY", "sk-test")
    allow_server(fake.url, patch)
    request.addfinalizer(LLMProvider.objects.get(pk="openai").save)
    LLMProvider.objects.filter(pk="openai").update(api_base_url=fake.url)


@command("llm.prices.refresh")
def llm_prices(world: World) -> Arguments:
    LLMModel.objects.filter(provider_id="openai").update(cost_per_1k_input_tokens=99)
    return ["--apply", "--all", "--overwrite"]


COPIED = ("prompt.create", "prompt.activate", "prompt.copy")
TEMPLATE = "Write about {{ keyword }}."
KEYWORD = [{"name": "keyword", "type": "string", "required": True}]


@command(own=("prompt.create", "prompt.activate"))
def prompt_create(world: World) -> Arguments:
    template, variables = world.folder / "draft.j2", world.folder / "variables.json"
    template.write_text(TEMPLATE)
    variables.write_text(json.dumps(KEYWORD))
    files = ["--file", str(template), "--variables", str(variables)]
    return ["--tenant-id", world.tenant.id, "--step", "draft", *files, "--note", "why", "--activate"]


@command(own=("prompt.activate",))
def prompt_activate(world: World) -> Arguments:
    with tenant_context(world.tenant) as alias:
        prompt_create_active(alias=alias, step="draft", content=TEMPLATE, variables=KEYWORD, note="why")
    return ["--tenant-id", world.tenant.id, "--step", "draft", "--previous"]


@command("prompt.copy", "prompt.copy.commit", "prompt.copy.complete", own=COPIED)
def prompt_copy(world: World) -> Arguments:
    source = tenant_create_service(name="source", tenant_id=world.new_id())
    with tenant_context(source) as alias:
        prompt_create_active(alias=alias, step="draft", content=TEMPLATE, variables=KEYWORD, note="why")
    return ["--from", source.id, "--to", world.tenant.id, "--step", "draft"]


@command(own=("prompt.test", "prompt.test.complete"))
def prompt_test(world: World) -> Arguments:
    fake = world.request.getfixturevalue("fake_llm")
    fake.answers.append(Answer(text="tried"))
    inputs = ["--input", "keyword=tea", "--input", "language=en"]
    return ["--tenant-id", world.tenant.id, "--step", "keyword_analysis", *inputs, "--provider", "openai"]


@command(own=("run.create",))
def run_create_(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--config", CONFIG]


@command(own=("run.read",))
def run_show(world: World) -> Arguments:
    made = run_create(tenant_id=world.tenant.id, config=json.loads(CONFIG))
    return ["--tenant-id", world.tenant.id, "--run-id", str(made.pk)]


def _run(world: World, *, hold: bool = False) -> Run:
    return run_create(tenant_id=world.tenant.id, config=json.loads(CONFIG), hold=hold)


def _named(world: World, run: Run) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--run-id", str(run.pk)]


@command(own=("run.pause",))
def run_pause(world: World) -> Arguments:
    return _named(world, _run(world))


@command(own=("run.resume",))
def run_resume(world: World) -> Arguments:
    return _named(world, _run(world, hold=True))


@command(own=("run.cancel",))
def run_cancel(world: World) -> Arguments:
    return _named(world, _run(world))


@command(own=("run.retry",))
def run_retry(world: World) -> Arguments:
    run = _run(world)
    cancel(tenant_id=world.tenant.id, run_id=run.pk)
    return _named(world, run)


@command(own=("run.approve",))
def run_approve(world: World) -> Arguments:
    return _named(world, run_in_review(world.tenant))


@command("run.reconcile")
def run_reconcile(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("cost.reconcile")
def cost_reconcile(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("step_default.change")
def step_route(world: World) -> Arguments:
    default = StepLLMDefault.objects.get(pk="draft")
    world.afterwards(default.save)
    provider = "claude" if default.provider_id != "claude" else "openai"
    return ["--step", "draft", "--provider", provider, "--force"]


@command("tenant.backup", "tenant.backup.complete")
def tenant_backup_(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--output", str(world.folder / "backups")]


@command("tenant.command")
def tenant_command(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--", "check"]


@command("tenant.create", "tenant.activate")
def tenant_create(world: World) -> Arguments:
    tenant_id = world.new_id()
    return ["--name", tenant_id, "--id", tenant_id]


@command("tenant.dbshell")
def tenant_dbshell(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--", "-Atc", "DELETE FROM prompts WHERE false"]


@command(*("tenant.delete", "tenant.delete.step", "cluster.restore_point", "audit.archive", "tenant.delete.complete"))
def tenant_delete(world: World) -> Arguments:
    world.afterwards(lambda: forget_erasure(Erasure.objects.get(tenant_id=world.tenant.id)))
    return ["--tenant-id", world.tenant.id, "--confirm"]


@command("tenant.drill", "tenant.drill.complete")
def tenant_drill(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--backup-file", world.backup()]


@command("tenant.export", "tenant.export.complete")
def tenant_export_(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--output", str(world.folder / "bundle")]


@command("tenant.import", "tenant.import.complete")
def tenant_import(world: World) -> Arguments:
    tenant_export(tenant_id=world.tenant.id, output=str(world.folder / "bundle"))
    return ["--file", str(world.folder / "bundle"), "--id", world.new_id()]


@command("tenant.migrate", "tenant.migrate.complete")
def tenant_migrate(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("tenant.orphans.remove")
def tenant_orphans(world: World) -> Arguments:
    with tenant_context(world.tenant):
        storage.write(storage.artifact_path(uuid4(), "draft", "stray.md"), b"nobody's")
    return ["--tenant-id", world.tenant.id, "--remove", "--confirm"]


@command("tenant.backup.fail")
def tenant_recover(world: World) -> Arguments:
    Backup.objects.create(
        tenant_id=world.tenant.id,
        identity=world.tenant.identity,
        kind=BackupKind.BACKUP,
        place=str(world.folder),
        name="cut off",
        format="custom",
        user_id="test",
    )
    return []


@command("tenant.restore", "cluster.restore_point", "tenant.restore.complete", own=("tenant.restore",))
def tenant_restore(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--backup-file", world.backup(), "--confirm"]


@command("tenant.limit")
def tenant_limit(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--steps", "3"]


@command("tenant.budget")
def tenant_budget(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id, "--monthly", "50", "--per-run", "none"]


@command("tenant.resume")
def tenant_resume(world: World) -> Arguments:
    tenant_suspend(tenant_id=world.tenant.id)
    return ["--tenant-id", world.tenant.id]


@command("tenant.rotate", "tenant.rotate.complete")
def tenant_rotate(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("tenant.suspend")
def tenant_suspend_(world: World) -> Arguments:
    return ["--tenant-id", world.tenant.id]


@command("login.permit")
def staff_allow_password(world: World) -> Arguments:
    return ["--username", _account(world, is_superuser=True)]


@command("second_factor.reset")
def staff_reset_factor(world: World) -> Arguments:
    username = _account(world, is_superuser=False)
    enrol(User.objects.get(username=username))
    return ["--username", username]


@command("user.roles")
def staff_grant(world: World) -> Arguments:
    return ["--username", _account(world, is_superuser=False), "--role", "viewer", "--tenant-id", world.tenant.id]


@command("user.roles")
def staff_revoke(world: World) -> Arguments:
    username = _account(world, is_superuser=False)
    give_role(User.objects.get(username=username), "viewer")
    return ["--username", username, "--role", "viewer", "--all-tenants"]


@command("login.unlock")
def staff_unlock(world: World) -> Arguments:
    return ["--username", "someone"]


def _account(world: World, *, is_superuser: bool) -> str:
    """Create an account, which is deleted after the test; return its name."""
    user = make_user(is_superuser=is_superuser)
    world.afterwards(user.delete)
    return user.get_username()
