"""Staff pause, resume, retry and cancel runs, one by one and in bulk, and approve them or send them back."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditLog
from runs.models import PauseCause, Run, RunStatus, Step
from runs.services.approve import MAX_COMMENT_CHARS
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import Browser
from tests.runs.conftest import broker_queue, fake_llm, make_run
from tests.runs.driving import reload
from tests.runs.services.states import COMMENT, FIRST, REVIEWED, InState, in_state, steps_of
from tests.support.staff import give_role

__all__ = ["broker_queue", "fake_llm", "in_state", "make_run"]

ACTIONS = ("approve", "send_back", "pause", "resume", "retry", "retry_from", "cancel")
# What the page of a run offers in each state.
OFFERED = {
    "pending": {"pause", "cancel"},
    "running": {"pause", "cancel"},
    "paused": {"resume", "retry_from", "cancel"},
    "held": {"resume", "retry_from", "cancel"},
    "in review": {"approve", "send_back", "retry_from", "cancel"},
    "failed": {"retry", "retry_from"},
    "completed": set(),
}
CONFIRMED = {"_form_submitted": "on"}


def page(run: Run, tenant: Tenant, action: str = "change") -> str:
    return f"/t/{tenant.id}/admin/runs/run/{run.pk}/{action}/"


def act(browser: Client, run: Run, tenant: Tenant, action: str, **form: str) -> str:
    """Confirm the action's dialog, and return the page that it leads to."""
    response = browser.post(page(run, tenant, action), {**CONFIRMED, **form}, follow=True)
    assert response.redirect_chain == [(page(run, tenant), 302)]
    return response.content.decode()


def act_on_selected(browser: Client, tenant: Tenant, action: str, runs: list[Run], **form: str) -> str:
    data: dict[str, Any] = {"action": action, "_selected_action": [str(run.pk) for run in runs], **form}
    return browser.post(f"/t/{tenant.id}/admin/runs/run/", data, follow=True).content.decode()


@pytest.mark.parametrize("state", OFFERED)
def test_a_runs_page_offers_what_its_state_allows(
    state: str, browser: Client, tenant: Tenant, in_state: InState
) -> None:
    run = in_state(state)
    html = browser.get(page(run, tenant)).content.decode()
    assert {action for action in ACTIONS if page(run, tenant, action) in html} == OFFERED[state]
    for action in ACTIONS:
        assert browser.get(page(run, tenant, action)).status_code == (200 if action in OFFERED[state] else 403)


@pytest.mark.parametrize(
    "action",
    [
        ("pending", "pause", "paused", "The run was paused."),
        ("held", "resume", "pending", "The run was resumed."),
        ("failed", "retry", "running", "The run was retried."),
        ("running", "cancel", "failed", "The run was cancelled."),
        ("in review", "approve", "running", "The run was approved."),
    ],
    ids=lambda one: one[1],
)
def test_an_action_is_one_confirmed_call_of_the_service(
    action: tuple[str, str, str, str], browser: Client, superuser: User, tenant: Tenant, in_state: InState
) -> None:
    state, name, status, message = action
    run = in_state(state)
    before = reload(tenant, run).status
    assert browser.get(page(run, tenant, name)).status_code == 200
    assert reload(tenant, run).status == before, "a GET changes nothing"
    assert message in act(browser, run, tenant, name)
    assert reload(tenant, run).status == status
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).filter(action=f"run.{name}").latest("sequence")
    assert entry.user_id == f"staff:{superuser.username}"


def test_a_run_is_sent_back_with_a_comment(browser: Client, tenant: Tenant, in_state: InState) -> None:
    run = in_state("in review")
    dialog = browser.get(page(run, tenant, "send_back")).content.decode()
    assert f'<option value="{FIRST}"' in dialog and f'<option value="{REVIEWED}"' not in dialog
    assert "The run was sent back." in act(browser, run, tenant, "send_back", step=FIRST, comment=COMMENT)
    assert steps_of(tenant, run)[FIRST].review_comment == COMMENT


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("", "This field is required"),
        ("\u200b", "The comment is empty."),
        ("x" * (MAX_COMMENT_CHARS + 1), "The comment is longer than 4000 characters."),
        ("a\x00", "Null characters are not allowed."),
    ],
)
def test_an_unusable_comment_is_explained_in_the_dialog(
    comment: str, message: str, browser: Client, tenant: Tenant, in_state: InState
) -> None:
    run = in_state("in review")
    form = {**CONFIRMED, "step": FIRST, "comment": comment}
    response = browser.post(page(run, tenant, "send_back"), form)
    assert response.status_code == 200 and message in response.content.decode()
    assert reload(tenant, run).pause_cause == PauseCause.REVIEW


def test_a_run_is_retried_from_a_step_that_it_has_reached(browser: Client, tenant: Tenant, in_state: InState) -> None:
    run = in_state("failed")
    dialog = browser.get(page(run, tenant, "retry_from")).content.decode()
    assert [f'<option value="{step}"' in dialog for step in (FIRST, REVIEWED, "draft")] == [True, True, False]
    assert "The run was retried." in act(browser, run, tenant, "retry_from", step=FIRST)
    assert steps_of(tenant, run)[FIRST].version == 2
    html = browser.get(page(run, tenant)).content.decode()
    assert "output.json" in html, "the replaced version can be downloaded"


def test_a_state_that_has_changed_meanwhile_is_explained(browser: Client, tenant: Tenant, in_state: InState) -> None:
    run = in_state("completed")
    html = act(browser, run, tenant, "pause")
    assert "cannot be paused: its status is completed." in html
    assert reload(tenant, run).status == RunStatus.COMPLETED


def test_who_may_only_look_is_offered_nothing(staff: User, tenant: Tenant, in_state: InState) -> None:
    run = in_state("pending")
    give_role(staff, "viewer", tenant)
    client = Browser()
    client.force_login(staff)
    html = client.get(page(run, tenant)).content.decode()
    assert not any(page(run, tenant, action) in html for action in ACTIONS)
    assert "pause_selected" not in client.get(f"/t/{tenant.id}/admin/runs/run/").content.decode()
    assert client.post(page(run, tenant, "pause"), CONFIRMED).status_code == 403
    act_on_selected(client, tenant, "pause_selected", [run])
    assert reload(tenant, run).status == RunStatus.PENDING
    give_role(staff, "editor", tenant)
    assert client.post(page(run, tenant, "pause"), CONFIRMED).status_code == 302
    assert reload(tenant, run).status == RunStatus.PAUSED


def test_selected_runs_are_changed_and_refusals_explained(browser: Client, tenant: Tenant, in_state: InState) -> None:
    runs = [in_state("pending"), in_state("running"), in_state("completed")]
    html = act_on_selected(browser, tenant, "pause_selected", runs)
    assert "2 runs were paused." in html
    assert f"Run {runs[2].pk} cannot be paused: its status is completed." in html
    assert [reload(tenant, run).status for run in runs] == ["paused", "paused", "completed"]
    resumed = act_on_selected(browser, tenant, "resume_selected", runs[:2])
    assert "2 runs were resumed." in resumed and "waiting for a review before" not in resumed


def test_runs_that_need_a_review_first_are_counted(browser: Client, tenant: Tenant, in_state: InState) -> None:
    run = in_state("held")
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=run, step=FIRST).update(review=True)
    alone = in_state("held")
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run=alone, step=FIRST).update(review=True)
    said = act(browser, alone, tenant, "resume")
    assert "The run is waiting for a review before step" in said and "The run was resumed." not in said
    html = act_on_selected(browser, tenant, "resume_selected", [run, in_state("paused")])
    assert "1 run was resumed." in html
    assert "1 run is waiting for a review before it continues." in html
    assert "Approve the run to let it begin." in browser.get(page(run, tenant)).content.decode()


def test_of_many_refusals_some_are_shown_and_the_rest_counted(
    browser: Client, tenant: Tenant, in_state: InState
) -> None:
    html = act_on_selected(browser, tenant, "retry_selected", [in_state("pending") for _number in range(7)])
    assert html.count("cannot be retried: its status is pending.") == 5
    assert "2 more runs were refused." in html


def test_selected_runs_are_cancelled_after_a_confirmation(browser: Client, tenant: Tenant, in_state: InState) -> None:
    runs = [in_state("pending"), in_state("pending")]
    html = act_on_selected(browser, tenant, "cancel_selected", runs)
    assert "Cancel 2 runs?" in html
    assert all(f'name="_selected_action" value="{run.pk}"' in html for run in runs)
    # It names the runs, and leads back to the list.
    named = html.split('id="selected-rows"')[1].split("</ul>")[0]
    assert named.count("<li>") == 2 and named.count("coffee grinder · pending") == 2 and " more" not in named
    assert f'href="/t/{tenant.id}/admin/runs/run/"' in html.split('id="selected-rows"')[1]
    assert [reload(tenant, run).status for run in runs] == ["pending", "pending"]
    html = act_on_selected(browser, tenant, "cancel_selected", runs, confirmed="on")
    assert "2 runs were cancelled." in html
    assert [reload(tenant, run).status for run in runs] == ["failed", "failed"]


def test_runs_that_have_ended_are_not_offered_for_cancellation(
    browser: Client, tenant: Tenant, in_state: InState
) -> None:
    pending, ended = in_state("pending"), [in_state("completed"), in_state("failed")]
    html = act_on_selected(browser, tenant, "cancel_selected", [pending, *ended])
    assert "Cancel 1 run?" in html and "2 selected runs have already ended and stay as they are." in html
    assert html.split('id="selected-rows"')[1].split("</ul>")[0].count("<li>") == 1
    assert "The selected runs have already ended." in act_on_selected(browser, tenant, "cancel_selected", ended)


def test_a_run_is_started_on_hold(browser: Client, tenant: Tenant) -> None:
    form = {"keyword": "coffee", "language": "en", "advanced": "", "hold": "on"}
    response = browser.post(f"/t/{tenant.id}/admin/runs/run/add/", form, follow=True)
    html = response.content.decode()
    assert "The run was created and is paused." in html and "by staff:" in html
    with tenant_context(tenant) as alias:
        assert Run.objects.using(alias).get().pause_cause == PauseCause.HOLD
