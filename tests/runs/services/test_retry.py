"""Retrying a run from its failed step, or from an earlier one; replaced outputs are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from audit.log.actor import acting_as
from audit.models import AuditLog
from runs.errors import InvalidRunStep
from runs.models import Artifact, Call, RunCost, RunStatus, StepStatus
from runs.output import decode
from runs.selectors import run_document
from runs.services.pause import run_pause
from runs.services.retry import run_retry
from runs.storage import read
from tenants.app_hooks import contents
from tenants.models import Tenant
from tenants.restore.orphans import tenant_orphans
from tenants.routing.context import tenant_context
from tenants.transfer.export import tenant_export
from tenants.transfer.import_ import tenant_import
from tests.runs.driving import STEPS, execute, finish, reload
from tests.runs.fake_llm import INPUT_TOKENS, Answer, FakeLLM
from tests.runs.services.states import (
    FIRST,
    REVIEWED,
    InState,
    MakeRun,
    call_in_progress,
    change_step,
    in_state,
    steps_of,
)
from tests.support.tenant_fixtures import remove_all

__all__ = ["in_state"]


def texts_of(tenant: Tenant, run_id: object) -> dict[str, str]:
    """Return the texts of the files that the tenant's rows refer to, by path in the run; raise if a digest differs."""
    with tenant_context(tenant) as alias:
        files = list(contents().files(alias))
        found = {file.path.split(f"{run_id}/")[1]: read(file.path, file.digest) for file in files}
    outputs = {path: decode(content) for path, content in found.items() if path.endswith("output.json")}
    return {path: output.text if (output := outputs.get(path)) else text.decode() for path, text in found.items()}


def fail_at(tenant: Tenant, run: object, fake_llm: FakeLLM, step: str) -> None:
    fake_llm.answers.append(Answer(status=400, text="no"))
    assert execute(tenant, run, step) == "failed"  # type: ignore[arg-type]


def test_a_failed_step_begins_anew_with_all_its_attempts(tenant: Tenant, in_state: InState) -> None:
    run = in_state("failed")
    change_step(tenant, run, REVIEWED, retry_count=4, lost_count=2, failing_since="2000-01-01T00:00:00Z")
    run_retry(tenant_id=tenant.pk, run_id=run.pk)
    step = steps_of(tenant, run)[REVIEWED]
    assert (step.status, step.retry_count, step.lost_count, step.failing_since, step.version) == (
        *(StepStatus.PENDING, 0, 0, None),
        1,
    )
    assert finish(tenant, run) == ["completed"] * 3
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).get(action="run.retry")
    assert entry.details == {"step": REVIEWED, "attempts": 6, "status": "running"}


def test_completed_steps_before_the_failed_one_are_kept(tenant: Tenant, in_state: InState, fake_llm: FakeLLM) -> None:
    run = in_state("failed")
    before = steps_of(tenant, run)[FIRST]
    asked = len(fake_llm.prompts)
    run_retry(tenant_id=tenant.pk, run_id=run.pk)
    finish(tenant, run)
    after = steps_of(tenant, run)[FIRST]
    assert (after.output_digest, after.completed_at, after.version) == (before.output_digest, before.completed_at, 1)
    assert len(fake_llm.prompts) == asked + 3


def test_every_replaced_version_stays_readable(tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM) -> None:
    run = make_run(tenant, steps=STEPS[:3])
    for version in (1, 2, 3):
        if version > 1:
            with acting_as("operator:ann"):
                run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=STEPS[0])
        fake_llm.answers.extend(Answer(text=f"{step} {version}") for step in STEPS[:2])
        assert execute(tenant, run, STEPS[0]) == "completed"
        assert execute(tenant, run, STEPS[1]) == "completed"
        fail_at(tenant, run, fake_llm, STEPS[2])
    assert texts_of(tenant, run.pk) == {
        **{
            f"{step}/versions/{version}/{name}": f"{step} {version}"
            for step in STEPS[:2]
            for version in (1, 2)
            for name in ("output.json", f"artifacts/{step}.md")
        },
        **{f"{step}/{name}": f"{step} 3" for step in STEPS[:2] for name in ("output.json", f"artifacts/{step}.md")},
    }
    with tenant_context(tenant) as alias:
        replaced = Artifact.objects.using(alias).filter(file_path__contains="/versions/2/").first()
    assert replaced is not None and replaced.metadata is not None
    assert (replaced.metadata["version"], replaced.metadata["replaced_by"]) == (2, "operator:ann")
    assert replaced.metadata["replaced_at"] and replaced.metadata["size_bytes"]
    steps = steps_of(tenant, run)
    assert [steps[step].version for step in STEPS[:3]] == [3, 3, 1]


def test_all_versions_were_paid_and_all_are_counted(tenant: Tenant, make_run: MakeRun) -> None:
    run = make_run(tenant, steps=STEPS[:2])
    assert execute(tenant, run, FIRST) == "completed"
    run_pause(tenant_id=tenant.pk, run_id=run.pk)
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert finish(tenant, run) == ["completed"] * 2
    with tenant_context(tenant) as alias:
        assert RunCost.objects.using(alias).get(run=run).total_input_tokens == 3 * INPUT_TOKENS
        versions = Call.objects.using(alias).order_by("pk").values_list("version", flat=True)
        assert list(versions) == [1, 2, 1]


def test_an_answer_to_the_same_prompt_is_not_taken_from_the_replaced_version(
    tenant: Tenant, in_state: InState, fake_llm: FakeLLM
) -> None:
    run = in_state("paused")
    asked = len(fake_llm.prompts)
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    fake_llm.answers.append(Answer(text="another"))
    assert execute(tenant, run, FIRST) == "completed"
    assert len(fake_llm.prompts) == asked + 1
    assert texts_of(tenant, run.pk)[f"{FIRST}/output.json"] == "another"


def test_the_worker_of_a_call_in_progress_may_not_answer_for_the_new_version(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM
) -> None:
    run = make_run(tenant, steps=STEPS[:2])
    with call_in_progress(tenant, run, fake_llm) as outcomes:
        run_pause(tenant_id=tenant.pk, run_id=run.pk)
        run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert outcomes == ["lost"]
    fake_llm.answers.append(Answer(text="new"))
    assert execute(tenant, run, FIRST) == "completed"
    assert texts_of(tenant, run.pk) == {f"{FIRST}/output.json": "new", f"{FIRST}/artifacts/{FIRST}.md": "new"}


def test_a_replaced_version_is_still_marked_as_truncated(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    change_step(tenant, run, FIRST, is_truncated=True)
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert execute(tenant, run, FIRST) == "completed"
    assert not steps_of(tenant, run)[FIRST].is_truncated
    marked = {
        artifact["version"]: artifact["is_truncated"]
        for artifact in run_document(tenant_id=tenant.pk, run_id=run.pk)["artifacts"]
    }
    assert marked == {1: True, None: False}


def test_later_reviews_are_needed_again(tenant: Tenant, in_state: InState) -> None:
    run = in_state("paused")
    for step in STEPS[:2]:
        change_step(tenant, run, step, review=True, approved_at="2026-01-01T00:00:00Z", approved_by="operator:ann")
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    steps = steps_of(tenant, run)
    assert steps[FIRST].approved_by == "operator:ann"
    assert (steps[REVIEWED].approved_at, steps[REVIEWED].approved_by) == (None, None)


def test_a_retry_from_a_step_that_was_not_approved_waits_for_the_review(tenant: Tenant, in_state: InState) -> None:
    run = in_state("in review")
    retried = run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=REVIEWED)
    assert (retried.status, retried.pause_cause) == (RunStatus.PAUSED, "review")


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("no_such_step", "has no step 'no_such_step'. Its steps are: keyword_analysis, outline, draft, final."),
        ("", "has no step ''."),
        ("\ud800", r"has no step '\ud800'."),
        ("draft", "has not reached step draft yet."),
    ],
)
def test_a_step_that_the_run_lacks_or_has_not_reached_is_refused(
    step: str, sentence: str, tenant: Tenant, in_state: InState
) -> None:
    run = in_state("failed")
    with pytest.raises(InvalidRunStep) as caught:
        run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=step)
    assert sentence in caught.value.message and str(run.pk) in caught.value.message
    assert reload(tenant, run).status == RunStatus.FAILED


@pytest.mark.parametrize("damage", [None, b"altered"])
def test_an_output_that_is_lost_can_be_replaced(damage: bytes | None, tenant: Tenant, in_state: InState) -> None:
    """Otherwise no one could run the step again, as the error about the output advises."""
    run = in_state("failed")
    file = Path(settings.STORAGE_ROOT) / str(steps_of(tenant, run)[FIRST].output_path)
    file.unlink() if damage is None else file.write_bytes(damage)
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert finish(tenant, run) == ["completed"] * 4
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).get(action="run.retry")
    assert entry.details is not None
    assert entry.details["lost"] == [f"storage/{tenant.pk}/{run.pk}/{FIRST}/output.json"]
    assert f"{FIRST}/versions/1/artifacts/{FIRST}.md" in texts_of(tenant, run.pk)


def test_no_file_of_a_run_that_may_continue_is_an_orphan(tenant: Tenant, in_state: InState) -> None:
    run = in_state("failed")
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert tenant_orphans(tenant_id=tenant.pk) == []
    assert finish(tenant, run) == ["completed"] * 4
    assert tenant_orphans(tenant_id=tenant.pk, remove=True) == []
    assert len(texts_of(tenant, run.pk)) == 2 * 4 + 2


def test_replaced_versions_move_with_their_tenant(tenant: Tenant, in_state: InState, tmp_path: Path) -> None:
    run = in_state("failed")
    run_retry(tenant_id=tenant.pk, run_id=run.pk, from_step=FIRST)
    assert finish(tenant, run)[-1] == "completed"
    before = texts_of(tenant, run.pk)
    assert f"{FIRST}/versions/1/output.json" in before
    tenant_export(tenant_id=tenant.pk, output=str(tmp_path / "bundle"))
    moved_id = f"moved-{tenant.pk[-12:]}"
    try:
        tenant_import(file=str(tmp_path / "bundle"), new_id=moved_id)
        assert texts_of(Tenant.objects.get(pk=moved_id), run.pk) == before
        assert tenant_orphans(tenant_id=moved_id) == []
    finally:
        remove_all([moved_id])
