"""The first page of a tenant's site shows what needs attention, and refers to runs by their keywords."""

from __future__ import annotations

from decimal import Decimal

from django.test import Client

from runs.models import PauseCause, Run, RunStatus, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.staff import Filled


def test_the_overview_begins_with_what_needs_attention(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        failed = Run.objects.create(status=RunStatus.FAILED, current_step="draft", config={"keyword": "failed one"})
        Step.objects.create(run=failed, step="draft", status=StepStatus.FAILED, error_message="No key was given.")
        review = {"status": RunStatus.PAUSED, "pause_cause": PauseCause.REVIEW, "current_step": "outline"}
        waiting = Run.objects.create(**review, config={"keyword": "waiting one"})
    Tenant.objects.filter(pk=filled.tenant.pk).update(monthly_budget_usd=Decimal(5))
    page = browser.get(filled.site)
    stopped, reviews = page.context["sections"]
    assert [(row.text, row.detail) for row in stopped.rows] == [("failed one", "draft: No key was given.")]
    assert [(row.text, row.detail) for row in reviews.rows] == [
        ("waiting one", "Waiting for review before step outline.")
    ]
    assert stopped.rows[0].url == f"{filled.site}runs/run/{failed.pk}/change/"
    assert reviews.rows[0].url == f"{filled.site}runs/run/{waiting.pk}/change/"
    with tenant_context(filled.tenant):
        paused = Run.objects.create(status=RunStatus.PAUSED, pause_cause=PauseCause.PERSON, config={"keyword": "c"})
    listed = {run.pk for run in browser.get(stopped.more_url).context["cl"].result_list}
    assert {failed.pk, paused.pk} <= listed
    assert [run.pk for run in browser.get(reviews.more_url).context["cl"].result_list] == [waiting.pk]
    assert (page.context["spending"]["used"], page.context["spending"]["budget"]) == ("0.00", "5.00")
    crumb = browser.get(f"{filled.site}runs/run/{failed.pk}/change/").content.decode()
    assert '<span class="seo-gen-crumb-last" title="failed one">failed one</span>' in crumb
    assert f'<a href="{filled.site}runs/run/" class="seo-gen-crumb">Runs</a>' in crumb
