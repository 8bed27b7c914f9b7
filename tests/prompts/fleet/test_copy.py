"""`prompt copy`: all tenants get the versions, or none does, even if a tenant or the machine fails."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from config.base.command import Refusal
from prompts.errors import InvalidPrompt, PromptMismatch, UnknownPrompt
from prompts.fleet.copy import prompt_copy
from prompts.fleet.undo import prompt_copy_undo
from prompts.models import Prompt
from prompts.services import prompt_activate
from tenants.errors import FleetUnfinished
from tenants.fleet.batch import batch_decide, batch_end
from tenants.fleet.two_phase import end_all
from tenants.lifecycle.status import tenant_statuses
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import BatchStatus, DatabaseServer, MigrationBatch, Tenant
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.types import BatchProgress
from tenants.unfinished import tenant_recover
from tests.prompts.fleet.copies import TEXT, active_text, copy_and_die, make_source, newest_batch, rows_of
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.support.fleets import as_owner, leftovers

# (phase, how many are done, whether the decision to commit has been written by then)
BOUNDARIES = [
    ("check", 0, False),
    ("check", 2, False),
    ("compare", 0, False),
    ("compare", 2, False),
    ("prepare", 0, False),
    ("prepare", 1, False),
    ("prepare", 2, False),
    ("decide", 0, False),
    ("decide", 1, True),
    ("commit", 0, True),
    ("commit", 1, True),
    ("commit", 2, True),
]


def command(*arguments: str) -> Any:
    out = StringIO()
    call_command("prompt_copy", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture
def trio(make_tenant: MakeTenant) -> list[Tenant]:
    """Return three tenants, the first of which has a version that the others lack."""
    tenants = [make_tenant() for _ in range(3)]
    make_source(tenants[0])
    return tenants


def ids(tenants: list[Tenant]) -> list[str]:
    return [tenant.id for tenant in tenants]


def test_the_version_is_created_and_activated_in_each_tenant_with_its_note(trio: list[Tenant]) -> None:
    source, *others = trio
    tenant_suspend(tenant_id=others[1].id)
    report = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others), steps=["draft"])
    assert (report.outcome, report.tenant_count, report.pending_count, report.problems) == ("completed", 2, 2, [])
    assert [(one.tenant_id, one.step, one.before, one.after) for one in report.differences] == [
        (tenant_id, "draft", 1, 2) for tenant_id in sorted(ids(others))
    ]
    with tenant_context(others[0]) as alias:
        copied = Prompt.objects.using(alias).get(step="draft", is_active=True)
        entries = AuditLog.objects.using(alias).order_by("sequence").values_list("action", "details")
        [*_before, created, activated, (action, details)] = entries
    assert details is not None
    assert (copied.content, copied.note, copied.author) == (TEXT, "to be copied", "system")
    assert (created[0], activated[0], action) == ("prompt.create", "prompt.activate", "prompt.copy")
    assert details["changes"][0]["after_id"] == copied.pk and source.id not in str(details)
    assert leftovers() == []


def test_the_control_log_has_the_batch_and_its_decision(trio: list[Tenant]) -> None:
    source, *others = trio
    report = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others))
    entries = list(ControlAuditLog.objects.filter(resource_id=str(report.batch_id)).order_by("sequence"))
    assert [entry.action for entry in entries] == ["prompt.copy", "prompt.copy.commit", "prompt.copy.complete"]
    assert entries[0].details is not None and entries[0].details["from"] == source.id
    assert entries[0].details["tenants"] == ids(others)


@pytest.mark.usefixtures("empty_fleet")
def test_all_means_every_other_tenant(make_tenant: MakeTenant) -> None:
    tenants = [make_tenant() for _ in range(3)]
    make_source(tenants[0])
    before = rows_of(tenants[:1])
    report = command("--from", tenants[0].id, "--all")
    assert (report["outcome"], report["pending_count"]) == ("completed", 2)
    assert rows_of(tenants[:1]) == before
    assert [active_text(tenant) for tenant in tenants[1:]] == [TEXT, TEXT]


def test_a_tenant_that_has_the_version_already_is_left_alone(trio: list[Tenant]) -> None:
    source, same, other = trio
    make_source(same)
    before = rows_of([same])
    report = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(trio), steps=["draft"])
    assert (report.tenant_count, report.pending_count) == (2, 1)
    assert rows_of([same]) == before and active_text(other) == TEXT
    again = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(trio), steps=["draft"])
    assert (again.outcome, again.pending_count) == ("completed", 0)


def test_an_older_version_and_a_new_step_are_copied(trio: list[Tenant]) -> None:
    source, *others = trio
    make_source(source, "Newer {{ keyword }}")
    make_source(source, "New step {{ keyword }}", step="teaser")
    command("--from", source.id, "--to", *ids(others), "--step", "draft", "--version", "2")
    assert active_text(others[0]) == TEXT
    report = command("--from", source.id, "--to", *ids(others), "--step", "teaser")
    assert [(one["before"], one["after"]) for one in report["differences"]] == [(None, 1), (None, 1)]
    assert active_text(others[1], "teaser") == "New step {{ keyword }}"


def test_a_dry_run_shows_each_difference_and_changes_nothing(trio: list[Tenant]) -> None:
    source, *others = trio
    before, batches = rows_of(trio), ControlAuditLog.objects.count()
    report = command("--from", source.id, "--to", *ids(others), "--dry-run")
    assert (report["dry_run"], report["pending_count"], report["batch_id"]) == (True, 2, None)
    assert sorted(ids(others)) == [one["tenant_id"] for one in report["differences"]]
    for one in report["differences"]:
        assert (one["step"], one["before"], one["after"]) == ("draft", 1, None)
        assert "+Copied: {{ keyword }}\n" in one["diff"] and one["diff"].startswith("--- draft v1: template\n")
    assert rows_of(trio) == before and ControlAuditLog.objects.count() == batches


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--from", "{source}"), "options_conflict"),
        (("--undo", "x", "--all"), "options_conflict"),
        (("--undo", "x"), "prompt_copy_not_undone"),
        (("--from", "{source}", "--to", "nobody"), "tenant_not_found"),
        (("--from", "nobody", "--all"), "tenant_not_found"),
        (("--from", "{source}", "--to", "{other}", "--step", "nowhere"), "prompt_not_found"),
        (("--from", "{source}", "--to", "{other}", "--version", "1"), "prompt_copy_ambiguous"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    trio: list[Tenant], arguments: tuple[str, ...], code: str
) -> None:
    before = rows_of(trio)
    given = [argument.format(source=trio[0].id, other=trio[1].id) for argument in arguments]
    with pytest.raises(Refusal) as refusal:
        command(*given)
    assert refusal.value.code == code and "\n" not in refusal.value.message
    assert rows_of(trio) == before


def test_a_version_that_cannot_be_used_is_not_copied(trio: list[Tenant]) -> None:
    with tenant_context(trio[0]) as alias:
        Prompt.objects.using(alias).filter(step="draft", is_active=True).update(content="{{ tone }}")
    with pytest.raises(PromptMismatch, match=r"it uses undeclared variables \(tone\)"):
        prompt_copy(from_tenant_id=trio[0].id, tenant_ids=ids(trio))
    with pytest.raises(UnknownPrompt):
        prompt_copy(from_tenant_id=trio[0].id, tenant_ids=ids(trio), steps=["draft"], version=99)


def test_a_schema_that_was_tampered_with_fails_the_copy_before_any_change(trio: list[Tenant]) -> None:
    with as_owner(trio[2]) as connection:
        connection.execute("CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
        connection.execute("CREATE TRIGGER stop BEFORE INSERT ON prompts FOR EACH ROW EXECUTE FUNCTION stop()")
    before = rows_of(trio)
    with pytest.raises(Refusal) as refusal:
        command("--from", trio[0].id, "--to", *ids(trio))
    assert refusal.value.code == "prompt_copy_rolled_back"
    assert f"Tenant {trio[2].id}: Its schema differs from what its migrations create" in refusal.value.message
    assert rows_of(trio) == before and leftovers() == []


def test_a_version_that_was_activated_meanwhile_fails_the_copy(
    trio: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, *others = trio
    made = make_source(others[1], "Another {{ keyword }}")
    with tenant_context(others[1]) as alias:
        first = Prompt.objects.using(alias).get(step="draft", version=1)

    def activate(progress: Any) -> None:
        if (progress.phase, progress.done) == ("prepare", 0):
            with tenant_context(others[1]) as alias:
                prompt_activate(alias=alias, prompt_id=first.pk)

    report = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others), steps=["draft"], on_progress=activate)
    assert report.outcome == "rolled_back" and made.version == 2
    assert report.problems == [
        f"Tenant {others[1].id}: Its active version of step draft has changed since it was compared."
    ]
    assert active_text(others[0]) != TEXT and leftovers() == []


@pytest.mark.chaos
def test_over_fifty_tenants_with_one_sabotaged_none_changes(fifty: list[Tenant], tenant: Tenant) -> None:
    make_source(tenant)
    victim = fifty[30]
    before = rows_of(fifty)
    with as_owner(victim) as holder:
        holder.execute("LOCK TABLE prompts IN ACCESS SHARE MODE")
        holder.execute("LOCK TABLE prompts IN ROW EXCLUSIVE MODE")
        report = prompt_copy(from_tenant_id=tenant.id, tenant_ids=None, lock_timeout_s=0.5)
    assert (report.outcome, report.tenant_count, len(report.problems)) == ("rolled_back", 50, 1)
    assert report.problems[0].startswith(f"Tenant {victim.id}: ")
    assert rows_of(fifty) == before and leftovers() == []
    assert newest_batch().status == BatchStatus.ROLLED_BACK
    report = prompt_copy(from_tenant_id=tenant.id, tenant_ids=None)
    assert (report.outcome, report.pending_count) == ("completed", 50)
    assert {active_text(one) for one in fifty} == {TEXT}


@pytest.mark.chaos
@pytest.mark.parametrize(("phase", "done", "decided"), BOUNDARIES)
def test_killed_at_a_boundary(trio: list[Tenant], phase: str, done: int, decided: bool) -> None:
    source, *others = trio
    before = rows_of(others)
    copy_and_die(phase, done, from_tenant_id=source.id, tenant_ids=ids(others))
    with pytest.raises(FleetUnfinished, match="run `seo-gen tenant recover`"):
        prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others))
    [recovery] = tenant_recover()
    assert (recovery.kind, recovery.tenant_id) == ("prompt_copy", "*")
    assert recovery.outcome == ("finished" if decided else "undone") and "rolled back" not in recovery.reason
    assert leftovers() == [] and tenant_recover() == []
    assert {active_text(one) == TEXT for one in others} == {decided}
    assert decided or rows_of(others) == before
    actions = {"prompt.copy", "prompt.copy.commit", "prompt.copy.complete"}
    entries = ControlAuditLog.objects.filter(resource_id=str(newest_batch().pk)).values_list("action", flat=True)
    assert set(entries) == (actions if decided else {"prompt.copy", "prompt.copy.undo"})
    # And the next copy is possible again.
    assert prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others)).outcome == "completed"


@pytest.mark.chaos
def test_a_prepared_transaction_that_someone_else_rolled_back_is_reported(trio: list[Tenant]) -> None:
    source, *others = trio
    copy_and_die("decide", 1, from_tenant_id=source.id, tenant_ids=ids(others))
    assert {status.unfinished_operation for status in tenant_statuses(tenant_id=others[0].id)} == {"prompt_copy"}
    with as_owner(others[1]) as connection:
        connection.autocommit = True
        connection.execute(f"ROLLBACK PREPARED '{newest_batch().gid(database_of(others[1]))}'")
    [recovery] = tenant_recover()
    assert recovery.outcome == "finished"
    assert (
        f"Tenant {others[1].id}: Someone else rolled back its prepared transaction, so its prompts were not changed."
        in (recovery.reason)
    )
    assert active_text(others[0]) == TEXT and active_text(others[1]) != TEXT
    # It has nothing to undo, and does not keep the other from its undo.
    before = rows_of(others[1:])
    undone = prompt_copy_undo(batch_id=str(newest_batch().pk))
    assert (undone.outcome, undone.tenant_count, undone.problems) == ("completed", 1, [])
    assert active_text(others[0]) != TEXT and rows_of(others[1:]) == before


def test_a_tenant_that_missed_the_copy_is_not_reported_as_changed(trio: list[Tenant]) -> None:
    source, *others = trio

    def sabotage(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == ("commit", 0):
            with as_owner(others[1]) as connection:
                connection.autocommit = True
                connection.execute(f"ROLLBACK PREPARED '{newest_batch().gid(database_of(others[1]))}'")

    report = prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others), on_progress=sabotage)
    assert report.outcome == "completed" and len(report.problems) == 1
    assert {one.tenant_id for one in report.differences} == {others[0].id}


def test_without_active_prompts_there_is_nothing_to_copy(trio: list[Tenant]) -> None:
    source, *others = trio
    with tenant_context(source) as alias:
        Prompt.objects.using(alias).update(is_active=False)
    batches = MigrationBatch.objects.count()
    with pytest.raises(InvalidPrompt, match=f"Tenant {source.id} has no active prompts, so there is nothing to copy"):
        prompt_copy(from_tenant_id=source.id, tenant_ids=ids(others))
    assert MigrationBatch.objects.count() == batches


def test_ctrl_c_rolls_back(trio: list[Tenant]) -> None:
    before = rows_of(trio)

    def interrupt(progress: BatchProgress) -> None:
        if (progress.phase, progress.done) == ("prepare", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prompt_copy(from_tenant_id=trio[0].id, tenant_ids=ids(trio), on_progress=interrupt)
    assert rows_of(trio) == before and leftovers() == []
    assert newest_batch().status == BatchStatus.ROLLED_BACK


def test_a_copy_that_another_process_rolled_back_says_so_and_is_recorded_once(trio: list[Tenant]) -> None:
    before = rows_of(trio)

    def recovered(progress: BatchProgress) -> None:
        # As `tenant recover` does in another process, after this one has lost its connection and with it the lock.
        if (progress.phase, progress.done) == ("decide", 0):
            batch = newest_batch()
            assert batch_decide(batch, BatchStatus.ROLLING_BACK)
            assert end_all(batch, commit=False, workers=1) == []
            batch_end(batch, BatchStatus.ROLLED_BACK)

    report = prompt_copy(from_tenant_id=trio[0].id, tenant_ids=ids(trio), on_progress=recovered)
    assert (report.outcome, report.problems) == (
        "rolled_back",
        ["Another process has decided to roll the batch back."],
    )
    assert rows_of(trio) == before and leftovers() == []
    entries = ControlAuditLog.objects.filter(resource_id=str(newest_batch().pk)).order_by("sequence")
    assert list(entries.values_list("action", flat=True)) == ["prompt.copy", "prompt.copy.undo"]


def test_a_server_without_room_is_named_before_any_change(trio: list[Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.servers.session.ServerSession.prepared_capacity", lambda _session: (1, 0))
    before = rows_of(trio)
    report = prompt_copy(from_tenant_id=trio[0].id, tenant_ids=ids(trio))
    [problem] = report.problems
    name = DatabaseServer.objects.get(is_default=True).name
    assert problem.startswith(
        f"Database server {name} can hold 1 prepared transaction (0 in use), but this batch needs 2"
    )
    assert rows_of(trio) == before
