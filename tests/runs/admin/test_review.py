"""Reviews are decided one after another, and a decision counts only for the review that the person opened."""

from __future__ import annotations

from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client

from runs.errors import RunStateConflict
from runs.models import Run, RunStatus
from runs.services.approve import run_approve
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import form_in, hidden_fields
from tests.support.staff import give_role, run_in_review


def test_runs_are_decided_one_after_another(browser: Client, tenant: Tenant) -> None:
    first, second = run_in_review(tenant), run_in_review(tenant)
    url = f"/t/{tenant.id}/admin/runs/run/reviews/"
    html = browser.get(url).content.decode()
    assert f"?run={second.pk}" in html and "Waiting before step outline." in html and "<kbd>j</kbd>" in html
    form = form_in(html, "")
    assert form["run"] == [str(first.pk)] and form["from_step"] == ["keyword_analysis"]
    refused = browser.post(url, {**form, "send_back": "1"}).content.decode()
    # Above the text, where it is seen at once.
    assert refused.index("The comment is empty.") < refused.index("Waiting before step outline.")
    answer = browser.post(url, {**form, "approve": "1"})
    assert answer["Location"] == f"{url}?run={second.pk}"
    late = browser.post(url, {**form, "approve": "1"}, follow=True).content.decode()
    assert "no longer waiting for a review" in late
    form = form_in(late, "")
    sent = browser.post(url, {**form, "comment": "Shorter.", "send_back": "1"}, follow=True).content.decode()
    assert "The run was sent back." in sent and "No runs of this tenant are waiting for review." in sent
    with tenant_context(tenant):
        assert {run.status for run in Run.objects.all()} == {RunStatus.RUNNING}


def test_another_review_than_the_one_that_was_read_is_not_approved(browser: Client, tenant: Tenant) -> None:
    run = run_in_review(tenant)
    url = f"/t/{tenant.id}/admin/runs/run/reviews/"
    form = form_in(browser.get(url).content.decode(), "")
    with pytest.raises(RunStateConflict):
        run_approve(tenant_id=tenant.id, run_id=run.pk, seen="draft 2026-01-01T00:00:00+00:00")
    html = browser.post(url, {**form, "seen": "draft 2026-01-01T00:00:00+00:00", "approve": "1"}).content.decode()
    assert "has reached another review since you opened it" in unescape(html)
    with tenant_context(tenant):
        assert Run.objects.get(pk=run.pk).status == RunStatus.PAUSED


@pytest.mark.parametrize("action", ["approve", "send_back"])
def test_a_dialog_decides_only_on_the_review_that_it_was_opened_for(
    action: str, browser: Client, tenant: Tenant
) -> None:
    """As if the run had been sent back and had reached the review again while the dialog was open."""
    run = run_in_review(tenant)
    url = f"/t/{tenant.id}/admin/runs/run/{run.pk}/{action}/"
    opened = hidden_fields(browser.get(url).content.decode(), ["seen"])
    given = {"_form_submitted": "on", "step": "keyword_analysis", "comment": "Shorter."}
    with tenant_context(tenant):
        Run.objects.filter(pk=run.pk).update(paused_at=Now())
    for stale in (opened, {"seen": ""}):
        html = browser.post(url, {**given, **stale}, follow=True).content.decode()
        assert "has reached another review since you opened it" in unescape(html)
    browser.post(url, {**given, **hidden_fields(browser.get(url).content.decode(), ["seen"])})
    with tenant_context(tenant):
        assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING


def test_only_reviewers_have_the_queue(staff: User, tenant: Tenant) -> None:
    give_role(staff, "editor", tenant)
    client = Client()
    client.force_login(staff)
    for answer in (client.get, client.post):
        assert answer(f"/t/{tenant.id}/admin/runs/run/reviews/").status_code == 403
