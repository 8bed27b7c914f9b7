"""Every change by a command, an admin page or a run has an entry, and does not happen without one.

If a command, a model in the admin, one of its actions or URLs, or a transition of runs is missing from the tables, a
test here fails.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db import DatabaseError
from django.utils.timezone import now

from audit.log.actions import ACTIONS, RUN_ACTIONS
from audit.models import AuditEntry, AuditLog
from audit.titles import KINDS
from config.base.command import operator_name
from config.base.commands import our_commands
from config.base.errors import SeoGenError
from config.stack.paths import CHECKOUT
from runs.models import Run, Step
from runs.services.approve import run_approve, run_send_back
from runs.services.cancel import run_cancel
from runs.services.pause import run_pause
from runs.services.resume import run_resume
from runs.services.retry import run_retry
from runs.steps.claim import step_claim
from runs.steps.finish import step_return
from tenants.lifecycle.create import tenant_create
from tenants.models import Backup, BackupStatus, Tenant
from tenants.routing.context import tenant_context
from tenants.selectors import batches_unfinished, operations_unfinished
from tests.audit.audited import REFUSAL, Mark, actions_of, as_superuser, changed, log_refused, state
from tests.audit.commands import CASES, READ_ONLY, WITHOUT_A_LOG, World, run_command
from tests.audit.pages import CHANGES, IN_BOTH_LOGS, IN_CONTROL_LOG, WITHOUT_ENTRY, Staff, offered
from tests.config.site.forms import Browser
from tests.runs.conftest import broker_queue, fake_llm, make_run, run
from tests.runs.driving import STEPS, execute, finish, standard_model
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.services.states import change_step
from tests.runs.services.states import claim as claim_step
from tests.support.staff import Filled, fill_tenant, make_user
from tests.support.tenant_fixtures import remove

__all__ = ["broker_queue", "fake_llm", "make_run", "run"]

# Shows why they failed; the error itself says less.
TOLD_ON_STDERR = ("cluster_receive_wal", "tenant_command")
# (command, an entry that is not its first).
LATER = [
    (name, action)
    for name, case in sorted(CASES.items())
    for action in case.control[1:]
    if name not in ("cluster_receive_wal", "demo")  # in the first one's transaction; by other commands' services
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
    """Require that each entry has this actor, a known action and a resource, and that all share one operation."""
    for entry in entries:
        assert entry.user_id == actor
        assert entry.action in ACTIONS
        assert entry.resource_type in KINDS and entry.resource_id
    assert len({entry.operation_id for entry in entries}) == 1 and entries[0].operation_id


# -- commands ------------------------------------------------------------------------------------------------------


def test_every_command_is_in_one_of_the_tables() -> None:
    tables = [set(CASES), set(READ_ONLY), WITHOUT_A_LOG]
    assert sorted(name for table in tables for name in table) == sorted(our_commands())


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_command_is_recorded_or_does_nothing(name: str, world: World) -> None:
    case = CASES[name]
    arguments = case.arguments(world)
    before, mark = state(world.tenant, world.folder), Mark.now(world.tenant)
    with (
        log_refused(None if case.control else world.tenant),
        pytest.raises((DatabaseError, CommandError)) as refusal,
    ):
        case.run(name, arguments)
    assert REFUSAL in str(refusal.value) or name in TOLD_ON_STDERR
    assert changed(before, state(world.tenant, world.folder)) == {}
    case.run(name, arguments)
    entries, own = mark.control_entries(), mark.own_entries()
    if name == "demo":
        # The login does not belong to the command's operation here.
        assert entries.pop().action == "user.create"
    assert (actions_of(entries), actions_of(own)) == ({*case.control} - {"user.create"}, {*case.own})
    require_complete([*entries, *own], f"operator:{operator_name()}")


@pytest.mark.parametrize(("name", "action"), LATER)
def test_a_command_whose_later_entry_is_refused_fails_and_is_ended_with_an_entry(
    name: str, action: str, world: World
) -> None:
    case = CASES[name]
    arguments = case.arguments(world)
    mark = Mark.now(world.tenant)
    with log_refused(action=action), pytest.raises((DatabaseError, SeoGenError, CommandError)):
        case.run(name, arguments)
    run_command("tenant_recover", [])
    assert not operations_unfinished().exists() and not batches_unfinished().exists()
    assert not Backup.objects.filter(status=BackupStatus.RUNNING).exists()
    ended = {action, f"{case.control[0]}.undo", f"{case.control[0]}.fail"} & actions_of(mark.control_entries())
    assert ended, "neither done nor undone"


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_a_reading_command_changes_nothing(name: str, world: World) -> None:
    before = state(world.tenant, world.folder)
    with suppress(CommandError):  # it reports a problem
        run_command(name, READ_ONLY[name](world))
    assert changed(before, state(world.tenant, world.folder)) == {}


# -- the admin -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[User, Filled]]:
    """A superuser and a filled tenant, which all tests of the admin share."""
    user, tenant = make_user(is_superuser=True), tenant_create(name=f"shared {uuid4().hex[:12]}")
    yield user, fill_tenant(tenant)
    remove(tenant)
    user.delete()


@pytest.fixture
def staff(shared: tuple[User, Filled], request: pytest.FixtureRequest) -> Staff:
    user, filled = shared
    user.refresh_from_db()
    client = Browser(raise_request_exception=False)
    client.force_login(user)
    return Staff(client, user, filled, request)


def test_every_admin_action_is_in_one_of_the_tables(staff: Staff) -> None:
    found = offered(staff.user, staff.tenant)
    assert sorted(found - set(CHANGES) - WITHOUT_ENTRY) == [], "changes that are in no table"
    assert sorted((set(CHANGES) | WITHOUT_ENTRY) - found) == [], "in a table, but not offered"


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_an_admin_change_is_recorded_or_does_not_happen(name: str, staff: Staff, folder: Path) -> None:
    on_tenants_site = name.startswith("tenant/") and name not in IN_CONTROL_LOG
    change = CHANGES[name].prepare(staff)
    before, mark = state(staff.tenant, folder), Mark.now(staff.tenant)
    with log_refused(staff.tenant if on_tenants_site else None):
        change()
    assert changed(before, state(staff.tenant, folder)) == {}
    change()
    entries, own = mark.control_entries(), mark.own_entries()
    assert bool(own) == (on_tenants_site or name in IN_BOTH_LOGS)
    assert bool(entries) == (not on_tenants_site)
    assert CHANGES[name].action in actions_of([*entries, *own])
    require_complete([*entries, *own], f"staff:{staff.user.username}")


# -- runs ----------------------------------------------------------------------------------------------------------

REFUSED, BUSY = Answer(status=400, text="no"), Answer(status=503, text="busy")


def claim(tenant: Tenant, run: Run) -> None:
    with tenant_context(tenant) as alias:
        step_claim(alias=alias, tenant_id=tenant.pk, run_id=run.pk, step=STEPS[0], owner="test")


def claim_of_a_lost_worker(tenant: Tenant, run: Run) -> None:
    claim(tenant, run)
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step=STEPS[0]).update(lease_expires_at=now() - timedelta(seconds=1))
    claim(tenant, run)


def first_step(tenant: Tenant, run: Run) -> None:
    execute(tenant, run, STEPS[0])


def all_steps(tenant: Tenant, run: Run) -> None:
    finish(tenant, run)


def rerouted(tenant: Tenant, run: Run) -> None:
    fallback = standard_model()
    fallbacks = [{"provider": fallback.provider_id, "model": fallback.model_name}]
    change_step(tenant, run, STEPS[0], llm_model="removed", fallbacks=fallbacks)
    execute(tenant, run, STEPS[0])


def paused(tenant: Tenant, run: Run) -> None:
    run_pause(tenant_id=tenant.pk, run_id=run.pk)


def returned(tenant: Tenant, run: Run) -> None:
    held = claim_step(tenant, run)
    assert held is not None
    paused(tenant, run)
    with tenant_context(tenant) as alias:
        step_return(alias=alias, claim=held, reason="run paused")


def resumed(tenant: Tenant, run: Run) -> None:
    paused(tenant, run)
    run_resume(tenant_id=tenant.pk, run_id=run.pk)


def cancelled(tenant: Tenant, run: Run) -> None:
    run_cancel(tenant_id=tenant.pk, run_id=run.pk)


def retried(tenant: Tenant, run: Run) -> None:
    cancelled(tenant, run)
    run_retry(tenant_id=tenant.pk, run_id=run.pk)


def approved(tenant: Tenant, run: Run) -> None:
    change_step(tenant, run, STEPS[0], review=True)
    resumed(tenant, run)
    run_approve(tenant_id=tenant.pk, run_id=run.pk)


def sent_back(tenant: Tenant, run: Run) -> None:
    execute(tenant, run, STEPS[0])
    change_step(tenant, run, STEPS[1], review=True)
    resumed(tenant, run)
    run_send_back(tenant_id=tenant.pk, run_id=run.pk, comment="Shorter.")


@dataclass(frozen=True)
class Transition:
    action: str
    # What leads to the transition, what completes it, and how the model answers meanwhile.
    drive: Callable[[Tenant, Run], None]
    # Returns whether it has happened, given the run and its first step.
    happened: Callable[[Run, Step], bool]
    answers: tuple[Answer, ...] = ()


TRANSITIONS = (
    Transition("run.start", claim, lambda run, step: run.status == "running"),
    Transition("step.start", claim, lambda run, step: step.status == "running"),
    Transition("step.retry", claim_of_a_lost_worker, lambda run, step: step.lost_count > 0),
    Transition("step.retry", first_step, lambda run, step: step.retry_count > 0, (BUSY,)),
    Transition("step.complete", first_step, lambda run, step: step.status == "completed"),
    Transition("run.complete", all_steps, lambda run, step: run.status == "completed"),
    Transition("step.fail", first_step, lambda run, step: step.status == "failed", (REFUSED,)),
    Transition("step.return", returned, lambda run, step: step.status == "pending"),
    Transition("step.reroute", rerouted, lambda run, step: step.rerouted is not None),
    Transition("run.pause", paused, lambda run, step: run.status == "paused"),
    Transition("run.resume", resumed, lambda run, step: run.status == "pending"),
    Transition("run.cancel", cancelled, lambda run, step: run.status == "failed"),
    Transition("run.retry", retried, lambda run, step: run.status == "pending"),
    Transition("run.approve", approved, lambda run, step: step.approved_by is not None),
    Transition("run.send_back", sent_back, lambda run, step: step.version == 2),
    Transition("run.fail", first_step, lambda run, step: run.status == "failed", (REFUSED,)),
)
# Tested above, by a command and in the admin. A restore's `run.fail`: tests/runs/steps/test_during_restore.py;
# `cost.compare` by beat: tests/runs/costs/test_reconcile.py.
ABOVE = {"run.create", "run.read", "run.reconcile", "cost.reconcile", "cost.compare", "cost.export", "artifact.read"}
every_transition = pytest.mark.parametrize(
    "transition", TRANSITIONS, ids=lambda one: f"{one.action}-{one.drive.__name__}"
)


def test_every_entry_that_the_code_of_runs_writes_is_in_one_of_the_tables() -> None:
    names = {
        node.value
        for path in (CHECKOUT / "runs").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in RUN_ACTIONS
    }
    assert names == {one.action for one in TRANSITIONS} | ABOVE


# The note that a run's summary was written is not a transition; a later transaction writes it to the run's row.
NO_NOTES = """
CREATE FUNCTION public.without_note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER without_note BEFORE UPDATE ON public.runs
FOR EACH ROW WHEN (NEW.is_summarized) EXECUTE FUNCTION public.without_note();
"""


@every_transition
def test_a_transition_of_a_run_has_its_entry_in_the_same_transaction(
    transition: Transition, tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    fake_llm.answers.extend(transition.answers)
    with as_superuser(tenant) as connection:
        connection.execute(NO_NOTES)
    transition.drive(tenant, run)
    assert transition.happened(*_first(tenant, run))
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).filter(action=transition.action).latest("sequence")
    table = "runs" if entry.resource_type == "run" else "steps"
    # PostgreSQL stores the writing transaction with each row.
    with as_superuser(tenant) as connection:
        writers = connection.execute(
            f"SELECT xmin::text FROM {table} WHERE id::text = %s"
            " UNION ALL SELECT xmin::text FROM audit_logs WHERE id = %s",
            [entry.resource_id, entry.pk],
        ).fetchall()
    assert len(writers) == 2 and len(set(writers)) == 1
    assert entry.user_id == "system"


@every_transition
def test_a_transition_of_a_run_that_cannot_be_recorded_does_not_happen(
    transition: Transition, tenant: Tenant, run: Run, fake_llm: FakeLLM
) -> None:
    fake_llm.answers.extend(transition.answers)
    # A step whose completion cannot be recorded fails, which is recorded.
    with log_refused(tenant, action=transition.action), suppress(DatabaseError):
        transition.drive(tenant, run)
    assert not transition.happened(*_first(tenant, run))
    with tenant_context(tenant) as alias:
        assert not AuditLog.objects.using(alias).filter(action=transition.action).exists()


def _first(tenant: Tenant, run: Run) -> tuple[Run, Step]:
    with tenant_context(tenant) as alias:
        return Run.objects.using(alias).get(pk=run.pk), Step.objects.using(alias).get(run=run, step=STEPS[0])
