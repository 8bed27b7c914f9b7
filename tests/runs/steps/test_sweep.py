"""The sweep wakes workers for steps whose wake-up or worker was lost, and for no others."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from config.stack.process import wait_until
from runs.models import Run, Step, StepStatus
from runs.services.create import run_create
from runs.steps.claim import step_claim
from runs.steps.sweep import runs_sweep
from runs.steps.wake import rewake_s
from tenants.lifecycle.suspend import tenant_suspend
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, finish, messages_sent

MakeRun = Callable[..., Run]
PAST = timedelta(hours=-1)


@pytest.fixture(autouse=True)
def only_our_tenants() -> None:
    """Remove the marks of all tenants, so that sweeps visit only those of the test."""
    Tenant.objects.update(work_seen_at=None)


def overdue(tenant: Tenant, run: Run) -> None:
    """Make the wake-up of the run's first step overdue by an hour."""
    change(tenant, run, "keyword_analysis", wake_after=timezone.now() + PAST)


def change(tenant: Tenant, run: Run, step: str, **values: object) -> None:
    with tenant_context(tenant) as alias:
        assert Step.objects.using(alias).filter(run_id=run.pk, step=step).update(**values) == 1


def wake_of(tenant: Tenant, run: Run, step: str) -> tuple[str, str, str]:
    return (tenant.pk, str(run.pk), step)


def marked(tenant: Tenant) -> bool:
    return Tenant.objects.get(pk=tenant.pk).work_seen_at is not None


def test_a_lost_wake_up_is_sent_again_once_it_is_overdue(tenant: Tenant, run: Run) -> None:
    messages_sent()
    assert runs_sweep().woken == 0
    overdue(tenant, run)
    assert runs_sweep().woken == 1
    assert messages_sent() == [wake_of(tenant, run, "keyword_analysis")]
    assert execute(tenant, run, "keyword_analysis") == "completed"


def test_the_wake_up_of_a_later_step_is_overdue_once_its_run_has_stood_still(
    tenant: Tenant, run: Run, settings: Settings
) -> None:
    execute(tenant, run, "keyword_analysis")
    messages_sent()
    assert runs_sweep().woken == 0
    settings.RUN_LEASE_S = 0.2
    assert wait_until(lambda: runs_sweep().woken == 1, 10.0)
    assert messages_sent() == [wake_of(tenant, run, "outline")]


def test_the_next_repetition_waits_twice_as_long(tenant: Tenant, run: Run) -> None:
    assert [rewake_s(count) for count in (0, 1, 2, 6, 60)] == [60, 120, 240, 3840, 3840]
    overdue(tenant, run)
    assert [runs_sweep().woken for _ in range(3)] == [1, 0, 0]
    with tenant_context(tenant) as alias:
        row = Step.objects.using(alias).get(run=run, step="keyword_analysis")
    assert row.wake_count == 1 and row.wake_after is not None
    assert 60 < (row.wake_after - timezone.now()).total_seconds() <= 120


def test_a_lapsed_lease_is_handed_to_another_worker(tenant: Tenant, run: Run) -> None:
    with tenant_context(tenant) as alias:
        step_claim(alias=alias, tenant_id=tenant.pk, run_id=run.pk, step="keyword_analysis", owner="dead")
    messages_sent()
    assert runs_sweep().woken == 0
    change(tenant, run, "keyword_analysis", lease_expires_at=timezone.now() + PAST)
    assert runs_sweep().woken == 1
    assert messages_sent() == [wake_of(tenant, run, "keyword_analysis")]
    assert execute(tenant, run, "keyword_analysis") == "completed"


def test_a_step_that_has_to_wait_is_not_woken_before(tenant: Tenant, run: Run) -> None:
    change(
        tenant,
        run,
        "keyword_analysis",
        wake_after=timezone.now() + PAST,
        not_before=timezone.now() + timedelta(minutes=5),
    )
    assert runs_sweep().woken == 0


def test_only_the_step_whose_turn_it_is_is_woken(tenant: Tenant, run: Run) -> None:
    """Later steps are also pending, but were never woken."""
    messages_sent()
    overdue(tenant, run)
    assert runs_sweep().woken == 1
    assert messages_sent() == [wake_of(tenant, run, "keyword_analysis")]


@pytest.mark.parametrize("status", ["paused", "completed", "failed"])
def test_a_run_that_does_not_work_is_left_alone(tenant: Tenant, run: Run, status: str) -> None:
    overdue(tenant, run)
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=run.pk).update(status=status)
    assert runs_sweep().woken == 0


def test_the_mark_goes_when_no_run_is_unfinished(tenant: Tenant, run: Run) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(work_seen_at=timezone.now() + PAST)
    runs_sweep()
    assert marked(tenant)
    finish(tenant, run)
    runs_sweep()
    assert not marked(tenant)
    assert runs_sweep().tenants == 0


def test_a_fresh_mark_stays_since_its_run_may_not_be_committed_yet(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(work_seen_at=timezone.now())
    runs_sweep()
    assert marked(tenant)


def test_a_mark_that_was_renewed_meanwhile_stays(tenant: Tenant, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run created between the check and the removal keeps its tenant marked."""
    from runs.steps import sweep

    finish(tenant, run)
    Tenant.objects.filter(pk=tenant.pk).update(work_seen_at=timezone.now() + PAST)
    look = sweep.tenant_sweep

    def look_and_be_overtaken(*, alias: str, tenant_id: str) -> int:
        woken = look(alias=alias, tenant_id=tenant_id)
        Tenant.objects.filter(pk=tenant.pk).update(work_seen_at=timezone.now())
        return woken

    monkeypatch.setattr(sweep, "tenant_sweep", look_and_be_overtaken)
    runs_sweep()
    assert marked(tenant)


def test_a_tenant_that_cannot_be_swept_keeps_its_mark_and_delays_no_other(
    tenant_pair: tuple[Tenant, Tenant], make_run: MakeRun
) -> None:
    one, other = tenant_pair
    runs = {tenant.pk: make_run(tenant) for tenant in tenant_pair}
    for tenant in tenant_pair:
        overdue(tenant, runs[tenant.pk])
    messages_sent()
    tenant_suspend(tenant_id=one.pk)
    report = runs_sweep()
    assert (report.tenants, report.woken, report.skipped) == (2, 1, 1)
    assert messages_sent() == [wake_of(other, runs[other.pk], "keyword_analysis")]
    assert marked(one)


def test_a_large_backlog_is_woken_in_portions(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.steps.sweep.BATCH", 2)
    for _ in range(5):
        run_create(tenant_id=tenant.pk, config={"keyword": "x"})
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(status=StepStatus.PENDING, position=0).update(wake_after=timezone.now())
    assert [runs_sweep().woken for _ in range(4)] == [2, 2, 1, 0]
