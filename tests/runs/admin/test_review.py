"""Reviews are decided one after another, and a decision counts only for the review that the person opened."""

from __future__ import annotations

from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client

from runs.admin import review
from runs.admin.texts import texts_of
from runs.errors import RunStateConflict
from runs.models import Run, RunStatus
from runs.presentation import markdown
from runs.services.approve import run_approve
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import form_in, hidden_fields
from tests.support.staff import give_role, run_in_review


def test_runs_are_decided_one_after_another(browser: Client, tenant: Tenant) -> None:
    first, second = run_in_review(tenant), run_in_review(tenant)
    url = f"/t/{tenant.id}/admin/runs/run/reviews/"
    html = browser.get(url).content.decode()
    assert f"?run={second.pk}" in html and "Waiting for review before step outline." in html and "<kbd>j</kbd>" in html
    form = form_in(html, "")
    assert form["run"] == [str(first.pk)] and form["from_step"] == ["keyword_analysis"]
    refused = browser.post(url, {**form, "send_back": "1"}).content.decode()
    # Above the text, where it is seen at once.
    assert refused.index("The comment is empty.") < refused.index("Waiting for review before step outline.")
    answer = browser.post(url, {**form, "approve": "1"})
    assert answer["Location"] == f"{url}?run={second.pk}"
    late = browser.post(url, {**form, "approve": "1"}, follow=True).content.decode()
    assert "is not waiting for a review" in late
    form = form_in(late, "")
    sent = browser.post(url, {**form, "comment": "Shorter.", "send_back": "1"}, follow=True).content.decode()
    assert "The run was sent back." in sent and "No runs of this tenant are waiting for review." in sent
    with tenant_context(tenant):
        assert {run.status for run in Run.objects.all()} == {RunStatus.RUNNING}


def test_a_run_that_the_list_has_no_room_for_is_shown_and_decided(
    browser: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "SHOWN", 1)
    first, second = run_in_review(tenant), run_in_review(tenant)
    url = f"/t/{tenant.id}/admin/runs/run/reviews/"
    form = form_in(browser.get(f"{url}?run={second.pk}").content.decode(), "")
    assert form["run"] == [str(second.pk)]
    assert browser.post(url, {**form, "approve": "1"})["Location"] == f"{url}?run={first.pk}"
    with tenant_context(tenant):
        assert Run.objects.get(pk=second.pk).status == RunStatus.RUNNING
    for asked in (second.pk, "nothing"):
        html = browser.get(f"{url}?run={asked}").content.decode()
        assert "is not waiting for a review" in html and form_in(html, "")["run"] == [str(first.pk)]
    assert "is not waiting for a review" not in browser.get(url).content.decode()


def test_a_text_of_any_length_is_shown_to_its_end(
    browser: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "MAX_CHARS", 20)
    written = "# Title\n\nOne line.\n\nThe <b>end</b>."
    run = run_in_review(tenant, written)
    with tenant_context(tenant) as alias:
        (text,) = texts_of(alias=alias, run=run)
    page = f"/t/{tenant.id}/admin/runs/run/"
    for url in (f"{page}reviews/", f"{page}{run.pk}/texts/?text={text.key}"):
        html = browser.get(url).content.decode()
        assert "<h1>Title</h1>" in html and "The &lt;b&gt;end&lt;/b&gt;." in html.partition("<textarea")[0]
        assert "Only the beginning of this long text is formatted." in html
    assert f"{run.pk}/texts/?text={text.key}" in browser.get(f"{page}reviews/").content.decode()
    monkeypatch.setattr(markdown, "MAX_CHARS", len(written))
    assert "Only the beginning" not in browser.get(f"{page}reviews/").content.decode()


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
