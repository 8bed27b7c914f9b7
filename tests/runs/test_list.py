"""`run list`, of one tenant and of all: errors, retries, ages, filters, and the mark of a truncated article."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from runs.models import Run, RunStatus, Step
from runs.services.create import run_create
from runs.summaries.models import RunSummary
from tenants.models import Tenant, TenantStatus
from tenants.routing.context import tenant_context
from tests.runs.driving import execute, finish
from tests.runs.fake_llm import Answer, FakeLLM
from tests.runs.summaries.changed import add, fail

MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def alone() -> None:
    """Remove all run summaries, since other tests may have left some."""
    RunSummary.objects.all().delete()


def listed(*arguments: str) -> Any:
    out = StringIO()
    call_command("run_list", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_a_failure_has_its_error_and_age(
    tenant: Tenant, make_run: MakeRun, fake_llm: FakeLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, retried, waiting = (make_run(tenant) for _ in range(3))
    fake_llm.answers += [Answer(status=400, text="no such model"), Answer(status=503, text="busy")]
    assert execute(tenant, failed, "keyword_analysis") == "failed"
    assert execute(tenant, retried, "keyword_analysis") == "retried"
    found = {run["id"]: run for run in listed("--tenant-id", tenant.pk)}
    one, other, third = (found[str(run.pk)] for run in (failed, retried, waiting))
    assert (one["status"], one["error_step"]) == ("failed", "keyword_analysis")
    assert "no such model" in one["error"]
    assert one["ended_at"] == one["updated_at"] and 0 <= one["age_s"] < 120
    # A step that fails again and again does not look like one that a worker is executing.
    assert (other["status"], other["retries"]) == ("running", 1) and "503" in other["error"]
    assert (third["retries"], third["error"], third["ended_at"]) == (0, None, None)
    call_command("run_list", "--tenant-id", tenant.pk)
    shown = capsys.readouterr().out
    assert re.search(rf"{failed.pk} +failed \d+ s ago .*no such model", shown)
    assert re.search(rf"{waiting.pk} +pending, created \d+ s ago ", shown)


def test_a_list_is_narrowed_to_a_series(tenant: Tenant) -> None:
    for series in ("a", "b", None):
        config = {"keyword": "tea", "language": "en"} | ({"series_id": series} if series else {})
        run_create(tenant_id=tenant.pk, config=config)
    found = listed("--tenant-id", tenant.pk, "--series-id", "a")
    assert len(found) == 1
    with tenant_context(tenant):
        assert (Run.objects.get(pk=found[0]["id"]).config or {})["series_id"] == "a"
    assert listed("--tenant-id", tenant.pk, "--series-id", "c") == []
    with pytest.raises(CommandError, match="--series-id needs --tenant-id"):
        listed("--all-tenants", "--series-id", "a")


def test_a_list_is_narrowed_to_several_statuses(tenant: Tenant) -> None:
    runs = {status: add(tenant, status=status) for status in RunStatus.values}
    for which in (["--tenant-id", tenant.pk], ["--all-tenants"]):
        found = listed(*which, "--status", "failed", "paused")
        assert {run["id"] for run in found} == {str(runs["failed"]), str(runs["paused"])}


def test_a_truncated_article_is_marked(tenant: Tenant, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tenant, run)
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step="final").update(is_truncated=True)
    [found] = listed("--tenant-id", tenant.pk)
    assert found["is_truncated"]
    call_command("run_list", "--tenant-id", tenant.pk)
    assert re.search(r"completed \d+ s ago \(truncated\)", capsys.readouterr().out)


def test_ages_count_from_the_end_the_pause_or_the_creation(tenant: Tenant) -> None:
    hour = timedelta(hours=1)
    with tenant_context(tenant) as alias:
        runs = Run.objects.using(alias)
        created = timezone.now() - 5 * hour
        for status in RunStatus.values:
            paused_at = timezone.now() - 2 * hour if status == RunStatus.PAUSED else None
            runs.create(status=status, created_at=created, updated_at=timezone.now() - hour, paused_at=paused_at)
    hours = {run["status"]: round(run["age_s"] / 3600) for run in listed("--tenant-id", tenant.pk)}
    assert hours == {"pending": 5, "running": 5, "paused": 2, "completed": 1, "failed": 1}


# -- all tenants -------------------------------------------------------------------------------------------------------


def test_all_tenants_are_listed_without_opening_their_databases(
    tenant_pair: tuple[Tenant, Tenant], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tenant_pair
    old, new = add(one, keyword="a customer's keyword"), add(other)
    fail(one, old, "first\nx")
    fail(other, new, "[second]")
    add(other)
    urls = {tenant.pk: tenant.database_url for tenant in tenant_pair}
    Tenant.objects.filter(pk__in=urls).update(database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    try:
        found = listed("--all-tenants", "--status", "failed")
        assert [(run["tenant_id"], run["id"], run["error"]) for run in found] == [
            (other.pk, str(new), "[second]"),
            (one.pk, str(old), "first\nx"),
        ]
        assert {(run["keyword"], run["retries"], run["error_step"]) for run in found} == {(None, None, "outline")}
        call_command("run_list", "--all-tenants", "--limit", "2")
        shown = capsys.readouterr().out
    finally:
        for tenant_id, url in urls.items():
            Tenant.objects.filter(pk=tenant_id).update(database_url=url)
    assert re.search(rf"{other.pk} +{new} +failed \d+ s ago +outline .*\[second\]", shown)
    assert str(old) not in shown, "only the two that changed last"
    assert "a customer's keyword" not in shown


def test_a_tenant_that_is_being_deleted_is_left_out(tenant: Tenant) -> None:
    add(tenant)
    assert len(listed("--all-tenants")) == 1
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.DELETING)
    assert listed("--all-tenants") == []
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.SUSPENDED)
    assert len(listed("--all-tenants")) == 1


@pytest.mark.parametrize("arguments", [[], ["--all-tenants", "--tenant-id", "x"]])
def test_one_tenant_or_all_is_required(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"--tenant-id|not allowed with"):
        call_command("run_list", *arguments)
