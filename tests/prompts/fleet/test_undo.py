"""`prompt copy --undo`: each tenant of a copy returns to its previous version, or none does."""

from __future__ import annotations

from uuid import uuid4

import pytest

from prompts.errors import CopyNotUndone
from prompts.fleet.copy import prompt_copy
from prompts.fleet.types import CopyReport
from prompts.fleet.undo import prompt_copy_undo
from prompts.models import Prompt
from prompts.services import prompt_activate
from tenants.models import MigrationBatch, Tenant
from tenants.routing.context import tenant_context
from tenants.unfinished import tenant_recover
from tests.prompts.fleet.copies import TEXT, active_text, make_source, rows_of, undo_and_die
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.support.fleets import leftovers

BOUNDARIES = [("check", 0, False), ("prepare", 1, False), ("decide", 1, True), ("commit", 1, True)]


@pytest.fixture
def trio(make_tenant: MakeTenant) -> list[Tenant]:
    tenants = [make_tenant() for _ in range(3)]
    make_source(tenants[0])
    make_source(tenants[0], "New step {{ keyword }}", step="teaser")
    make_source(tenants[2], "Own {{ keyword }}")
    return tenants


@pytest.fixture
def copied(trio: list[Tenant]) -> CopyReport:
    return prompt_copy(from_tenant_id=trio[0].id, tenant_ids=[tenant.id for tenant in trio])


def test_each_tenant_returns_to_the_version_that_was_active_before(trio: list[Tenant], copied: CopyReport) -> None:
    _source, first, second = trio
    report = prompt_copy_undo(batch_id=str(copied.batch_id))
    assert (report.outcome, report.pending_count, report.problems) == ("completed", 2, [])
    moves = [(one.tenant_id, one.step, one.before, one.after) for one in report.differences]
    assert sorted(moves) == sorted(
        [
            *((first.id, step, version, before) for step, version, before in (("draft", 2, 1), ("teaser", 1, None))),
            *((second.id, step, version, before) for step, version, before in (("draft", 3, 2), ("teaser", 1, None))),
        ]
    )
    assert active_text(second) == "Own {{ keyword }}" and active_text(first) != TEXT
    with tenant_context(first) as alias:
        assert not Prompt.objects.using(alias).filter(step="teaser", is_active=True).exists()
        assert Prompt.objects.using(alias).filter(content=TEXT).exists()
    assert report.batch_id is not None
    assert MigrationBatch.objects.get(pk=report.batch_id).undoes == copied.batch_id


def test_a_copy_is_undone_once(trio: list[Tenant], copied: CopyReport) -> None:
    undo = prompt_copy_undo(batch_id=str(copied.batch_id))
    for batch_id, problem in (
        (copied.batch_id, "has already been undone"),
        (undo.batch_id, "is itself an undo"),
        (uuid4(), "No completed copy of prompts has the id"),
        ("nonsense", "No completed copy of prompts has the id 'nonsense'"),
    ):
        with pytest.raises(CopyNotUndone, match=problem):
            prompt_copy_undo(batch_id=str(batch_id))


def test_a_tenant_whose_version_has_changed_since_fails_the_undo_of_all(trio: list[Tenant], copied: CopyReport) -> None:
    with tenant_context(trio[1]) as alias:
        prompt_activate(alias=alias, prompt_id=Prompt.objects.using(alias).get(step="draft", version=1).pk)
    before = rows_of(trio)
    report = prompt_copy_undo(batch_id=str(copied.batch_id))
    assert report.outcome == "rolled_back"
    assert report.problems == [
        f"Tenant {trio[1].id}: Its active version of step draft is no longer the copied one, v2."
    ]
    assert rows_of(trio) == before and leftovers() == []


def test_a_tenant_that_is_gone_is_left_out(trio: list[Tenant], copied: CopyReport, make_tenant: MakeTenant) -> None:
    remove(trio[1])
    report = prompt_copy_undo(batch_id=str(copied.batch_id))
    assert (report.outcome, report.pending_count) == ("completed", 1)
    assert active_text(trio[2]) == "Own {{ keyword }}"


@pytest.mark.chaos
@pytest.mark.parametrize(("phase", "done", "decided"), BOUNDARIES)
def test_killed_at_a_boundary(trio: list[Tenant], copied: CopyReport, phase: str, done: int, decided: bool) -> None:
    undo_and_die(phase, done, batch_id=str(copied.batch_id))
    [recovery] = tenant_recover()
    assert (recovery.kind, recovery.outcome) == ("prompt_copy", "finished" if decided else "undone")
    assert leftovers() == []
    assert {active_text(tenant) == TEXT for tenant in trio[1:]} == {not decided}
    if not decided:
        assert prompt_copy_undo(batch_id=str(copied.batch_id)).outcome == "completed"
