"""`run pause | resume | retry | cancel | approve`, as operators and programs use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditLog
from config.base.command import Refusal, operator_name
from runs.models import PauseCause, Run, RunStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import reload
from tests.runs.services.states import COMMENT, FIRST, InState, in_state, steps_of

__all__ = ["in_state"]

MakeRun = Callable[..., Run]
COMMANDS = ("run_pause", "run_resume", "run_retry", "run_cancel", "run_approve")
UNKNOWN = "0f0e0d0c-0b0a-4908-8706-050403020100"


def command(name: str, tenant: Tenant, *arguments: object) -> str:
    out = StringIO()
    call_command(name, "--tenant-id", tenant.pk, *map(str, arguments), stdout=out, stderr=StringIO())
    return out.getvalue()


def document(name: str, tenant: Tenant, *arguments: object) -> Any:
    return json.loads(command(name, tenant, *arguments, "--json"))


def refused(name: str, tenant: Tenant, *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        command(name, tenant, *arguments)
    return caught.value


@pytest.mark.parametrize(
    ("words", "state", "status"),
    [
        (("run_pause",), "pending", "paused"),
        (("run_resume",), "held", "pending"),
        (("run_retry",), "failed", "running"),
        (("run_retry", "--from", FIRST), "paused", "running"),
        (("run_cancel",), "running", "failed"),
        (("run_approve",), "in review", "running"),
        (("run_approve", "--send-back", COMMENT), "in review", "running"),
        (("run_approve", "--send-back", COMMENT, "--from", FIRST), "in review", "running"),
    ],
)
def test_one_run_is_changed_and_shown(
    words: tuple[str, ...], state: str, status: str, tenant: Tenant, in_state: InState
) -> None:
    run = in_state(state)
    assert document(words[0], tenant, "--run-id", run.pk, *words[1:]) == {
        "tenant_id": tenant.pk,
        "done": 1,
        "refused": 0,
        "skipped": 0,
        "runs": [{"run_id": str(run.pk), "outcome": "done", "status": status, "code": None, "message": None}],
    }
    assert reload(tenant, run).status == status
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).filter(resource_id=str(run.pk)).latest("sequence")
    assert entry.user_id == f"operator:{operator_name()}"


def test_the_refusal_of_one_run_is_the_commands(tenant: Tenant, in_state: InState) -> None:
    run = in_state("completed")
    refusal = refused("run_pause", tenant, "--run-id", run.pk)
    assert (refusal.code, refusal.returncode) == ("run_state_conflict", 1)
    assert str(refusal) == (
        f"Run {run.pk} cannot be paused: its status is completed. A completed run can no longer be changed."
    )
    assert refused("run_pause", tenant, "--run-id", UNKNOWN).code == "run_not_found"


def test_of_several_runs_each_is_reported_and_one_refusal_fails_the_command(tenant: Tenant, in_state: InState) -> None:
    first, second = in_state("pending"), in_state("completed")
    out = StringIO()
    with pytest.raises(Refusal) as caught:
        call_command(
            *("run_pause", "--tenant-id", tenant.pk, "--json"),
            *("--run-id", str(first.pk), str(second.pk), "--run-id", UNKNOWN, str(first.pk)),
            stdout=out,
        )
    assert (caught.value.code, str(caught.value)) == (
        "runs_refused",
        "Refused runs: 2 of 3.",
    )
    report = json.loads(out.getvalue())
    assert [(run["run_id"], run["outcome"], run["code"]) for run in report["runs"]] == [
        (str(first.pk), "done", None),
        (str(second.pk), "refused", "run_state_conflict"),
        (UNKNOWN, "refused", "run_not_found"),
    ]
    assert (report["done"], report["refused"], report["skipped"]) == (1, 2, 0)
    assert reload(tenant, first).status == RunStatus.PAUSED


def test_all_runs_whose_state_allows_it_are_changed_and_the_others_counted(tenant: Tenant, in_state: InState) -> None:
    pending, running = in_state("pending"), in_state("running")
    others = [in_state(state) for state in ("paused", "completed", "failed")]
    before = [reload(tenant, run).status for run in others]
    report = document("run_pause", tenant, "--all")
    assert {run["run_id"] for run in report["runs"]} == {str(pending.pk), str(running.pk)}
    assert (report["done"], report["refused"], report["skipped"]) == (2, 0, 3)
    assert [reload(tenant, run).status for run in others] == before
    assert "5 runs were skipped, since their state does not allow the change." in command("run_pause", tenant, "--all")


def test_a_change_of_all_runs_says_that_there_are_none(tenant: Tenant) -> None:
    assert command("run_pause", tenant, "--all") == "There are no runs to change.\n"


def test_a_status_narrows_all_runs_down(tenant: Tenant, in_state: InState) -> None:
    pending, running = in_state("pending"), in_state("running")
    report = document("run_cancel", tenant, "--all", "--status", "pending", "--confirm")
    assert [run["run_id"] for run in report["runs"]] == [str(pending.pk)]
    assert report["skipped"] == 0
    assert reload(tenant, running).status == RunStatus.RUNNING


def test_resuming_all_runs_leaves_reviews_to_the_reviewers(tenant: Tenant, in_state: InState) -> None:
    held, waiting = in_state("held"), in_state("in review")
    report = document("run_resume", tenant, "--all")
    assert str(held.pk) in [run["run_id"] for run in report["runs"]] and report["skipped"] == 2
    assert reload(tenant, waiting).pause_cause == PauseCause.REVIEW


def test_another_tenants_runs_are_left_alone(tenant_pair: tuple[Tenant, Tenant], in_state: InState) -> None:
    ours, theirs = tenant_pair
    foreign = in_state("pending", theirs)
    assert document("run_pause", ours, "--all")["runs"] == []
    assert refused("run_pause", ours, "--run-id", foreign.pk).code == "run_not_found"
    assert reload(theirs, foreign).status == RunStatus.PENDING


def test_cancelling_all_runs_needs_a_confirmation(
    tenant: Tenant, in_state: InState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = in_state("pending")
    refusal = refused("run_cancel", tenant, "--all")
    assert (refusal.code, refusal.message) == (
        "confirmation_missing",
        f"1 run of tenant {tenant.pk} will be cancelled.",
    )
    monkeypatch.setattr("sys.stdin", StringIO("wrong\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert refused("run_cancel", tenant, "--all").code == "confirmation_wrong"
    assert reload(tenant, run).status == RunStatus.PENDING
    monkeypatch.setattr("sys.stdin", StringIO(f"{tenant.pk}\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    command("run_cancel", tenant, "--all")
    assert reload(tenant, run).status == RunStatus.FAILED


@pytest.mark.parametrize("name", COMMANDS)
def test_runs_are_named_or_all_are_meant_but_not_both(name: str, tenant: Tenant) -> None:
    for arguments in ((), ("--run-id", UNKNOWN, "--all")):
        with pytest.raises(CommandError):
            command(name, tenant, *arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_status_needs_all(name: str, tenant: Tenant) -> None:
    assert refused(name, tenant, "--run-id", UNKNOWN, "--status", "paused").code == "options_conflict"


def test_from_needs_send_back(tenant: Tenant) -> None:
    assert refused("run_approve", tenant, "--run-id", UNKNOWN, "--from", FIRST).code == "options_conflict"


def test_an_unusable_comment_changes_no_run(tenant: Tenant, in_state: InState) -> None:
    run = in_state("in review")
    refusal = refused("run_approve", tenant, "--run-id", run.pk, "--send-back", " ")
    assert refusal.code == "review_comment_invalid"
    assert steps_of(tenant, run)[FIRST].version == 1


def test_a_run_is_created_on_hold_and_then_started(tenant: Tenant) -> None:
    config = '{"keyword": "tea", "language": "en", "retry_budget_s": 60}'
    out = StringIO()
    call_command("run_create", "--tenant-id", tenant.pk, "--config", config, "--hold", stdout=out)
    with tenant_context(tenant) as alias:
        run = Run.objects.using(alias).get()
        entry = AuditLog.objects.using(alias).get(action="run.create")
    assert f"Run {run.pk} is paused." in out.getvalue()
    assert (run.status, run.pause_cause, run.paused_by) == (
        *(RunStatus.PAUSED, PauseCause.HOLD),
        f"operator:{operator_name()}",
    )
    assert entry.details is not None and entry.details["paused"] == "hold"
    assert document("run_resume", tenant, "--run-id", run.pk)["runs"][0]["status"] == "pending"


def test_holding_and_waiting_contradict_each_other(tenant: Tenant) -> None:
    with pytest.raises(Refusal) as caught:
        call_command("run_create", "--tenant-id", tenant.pk, "--config", '{"keyword": "tea"}', "--hold", "--wait")
    assert caught.value.code == "options_conflict"
