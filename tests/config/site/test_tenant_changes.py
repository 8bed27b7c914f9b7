"""Runs, files, prompts and history on a tenant's site."""

import re
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditLog
from prompts.models import Prompt
from runs import storage
from runs.models import Artifact, Call, CallStatus, Run, RunStatus, Step
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.staff import ARTICLE, Filled


def entries(tenant: Tenant, action: str) -> list[AuditLog]:
    with tenant_context(tenant):
        return list(AuditLog.objects.filter(action=action).order_by("id"))


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_run_is_started(browser: Client, tenant: Tenant, superuser: User) -> None:
    # As pasted from other programs.
    form = {"keyword": "\ufeffコーヒー ミル\u200b", "language": "ja", "input-audience": "beginners"}
    response = browser.post(f"/t/{tenant.id}/admin/runs/run/add/", form)
    assert response.status_code == 302
    with tenant_context(tenant):
        run = Run.objects.get()
        assert run.status == RunStatus.PENDING
        assert run.config == {"keyword": "コーヒー ミル", "language": "ja", "audience": "beginners"}
    assert response["Location"] == f"/t/{tenant.id}/admin/runs/run/{run.pk}/change/"
    (entry,) = entries(tenant, "run.create")
    assert (entry.user_id, entry.resource_id) == (f"staff:{superuser.username}", str(run.pk))
    assert browser.get(response["Location"]).status_code == 200


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"keyword": ""}, "This field is required"),
        ({"keyword": "\u200b"}, "keyword is empty"),
        ({"keyword": "a\tb"}, "control character"),
        ({"language": "fr"}, "Select a valid choice"),
        ({"advanced": "{"}, "Enter a valid JSON"),
        ({"advanced": "[1]"}, "Enter a JSON object"),
        ({"advanced": '{"keyword": "other"}'}, "the rest of the form sets it"),
        ({"advanced": '{"steps": ["no_such_step"]}'}, "no_such_step"),
        ({"advanced": '{"models": {"draft": {"provider": "nobody"}}}'}, "nobody"),
    ],
)
def test_a_run_that_cannot_be_started_is_one_sentence(
    browser: Client, tenant: Tenant, changed: dict[str, str], message: str
) -> None:
    form = {"keyword": "coffee", "language": "en", "advanced": "", **changed}
    response = browser.post(f"/t/{tenant.id}/admin/runs/run/add/", form)
    assert response.status_code == 200
    assert message in response.content.decode()
    with tenant_context(tenant):
        assert not Run.objects.exists()


def test_a_runs_page_shows_steps_cost_and_files(browser: Client, filled: Filled) -> None:
    html = browser.get(f"{filled.site}runs/run/{filled.run.pk}/change/").content.decode()
    # 1000 tokens at 0.003 and 500 at 0.015 per 1000.
    for text in ("claude/model-x", "0.0105", "1,000", "500", "article.md", "A summary", "completed"):
        assert text in html, text
    assert "&lt;b&gt;" in html and f"{filled.keyword}" not in html, "the keyword is escaped"


def test_an_unknown_price_is_not_shown_as_nothing(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        filled.run.steps.update(cost_per_1k_output_tokens=None)
    for page in (f"runs/run/{filled.run.pk}/change/", "runs/run/", "runs/runcost/"):
        html = browser.get(filled.site + page).content.decode()
        assert "at least" in html or "unknown" in html, page


def test_a_call_whose_end_no_one_saw_makes_the_cost_a_lower_bound(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        Call.objects.create(
            run=filled.run,
            step=filled.step,
            status=CallStatus.UNKNOWN,
            version=1,
            attempt=1,
            lease_token=1,
            llm_provider="claude",
            llm_model="model-x",
            max_input_tokens=1000,
            max_output_tokens=1000,
        )
    for page in ("runs/run/", f"runs/run/{filled.run.pk}/change/", "runs/runcost/"):
        assert "at least 0.0105" in browser.get(filled.site + page).content.decode(), page
    # 1000 tokens at 0.003 and 1000 at 0.015 per 1000.
    assert "0.018" in browser.get(f"{filled.site}runs/runcost/{filled.run.pk}/change/").content.decode()


def test_a_truncated_output_is_marked_on_every_list(browser: Client, filled: Filled) -> None:
    pages = ("", "runs/run/", f"runs/run/{filled.run.pk}/change/", "runs/step/", "runs/artifact/")
    for page in pages:
        assert "truncated" not in _shown(browser, filled, page), page
    with tenant_context(filled.tenant):
        Step.objects.filter(pk=filled.step.pk).update(is_truncated=True)
    for page in pages:
        assert "truncated" in _shown(browser, filled, page), page
    # Once the step has been run again, the file belongs to an earlier output.
    with tenant_context(filled.tenant):
        Artifact.objects.filter(pk=filled.artifact.pk).update(metadata={"version": 1})
    assert "truncated" not in _shown(browser, filled, "runs/artifact/")


def _shown(browser: Client, filled: Filled, page: str) -> str:
    """Return the page's text without its tags, whose attributes may contain the same words."""
    return re.sub(r"<[^>]*>", " ", browser.get(filled.site + page).content.decode())


def test_costs_are_totalled(browser: Client, filled: Filled) -> None:
    html = browser.get(f"{filled.site}runs/runcost/").content.decode()
    assert html.count("0.0105") == 2, "the run's, and the total"


@pytest.mark.parametrize(
    "page", ["runs/run/{run}", "runs/step/{step}", "runs/artifact/{artifact}", "runs/runcost/{run}"]
)
@pytest.mark.parametrize("verb", ["change", "delete"])
def test_what_a_run_made_is_read_only(browser: Client, filled: Filled, page: str, verb: str) -> None:
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    path = f"{filled.site}{page.format(**ids)}/{verb}/"
    assert browser.post(path, {"status": "failed", "post": "yes"}).status_code == 403
    with tenant_context(filled.tenant):
        assert Run.objects.get(pk=filled.run.pk).status == RunStatus.COMPLETED


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_is_downloaded_and_its_reading_recorded(browser: Client, filled: Filled, superuser: User) -> None:
    response = browser.get(f"{filled.site}runs/artifact/{filled.artifact.pk}/download/")
    assert b"".join(response).decode() == ARTICLE
    assert response["Content-Disposition"] == 'attachment; filename="article.md"'
    assert response["Content-Type"] == "application/octet-stream"
    assert response["X-Content-Type-Options"] == "nosniff"
    (entry,) = entries(filled.tenant, "artifact.read")
    assert entry.user_id == f"staff:{superuser.username}"
    assert entry.details == {
        "run_id": str(filled.run.pk),
        "path": filled.artifact.file_path,
        "digest": filled.artifact.digest,
    }


def test_a_file_that_was_changed_is_not_handed_out(browser: Client, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        storage.write(filled.artifact.file_path, b"something else")
    response = browser.get(f"{filled.site}runs/artifact/{filled.artifact.pk}/download/")
    assert response.status_code == 400
    html = response.content.decode()
    assert "differs from the recorded one" in html and "something else" not in html
    assert entries(filled.tenant, "artifact.read") == []


def test_a_path_outside_the_tenants_folder_is_refused(browser: Client, filled_pair: tuple[Filled, Filled]) -> None:
    ours, theirs = filled_pair
    with tenant_context(ours.tenant):
        type(ours.artifact).objects.filter(pk=ours.artifact.pk).update(file_path=theirs.artifact.file_path)
    response = browser.get(f"{ours.site}runs/artifact/{ours.artifact.pk}/download/")
    assert response.status_code == 400
    assert "is not a valid path of tenant" in response.content.decode()


def test_a_file_that_there_is_not_is_not_found(browser: Client, filled: Filled) -> None:
    assert browser.get(f"{filled.site}runs/artifact/999999/download/").status_code == 404


# -- prompts -------------------------------------------------------------------------------------------------------


def test_a_new_version_is_made_from_one_that_is_there_and_activated(browser: Client, tenant: Tenant) -> None:
    site = f"/t/{tenant.id}/admin/prompts/prompt/"
    with tenant_context(tenant):
        active = Prompt.objects.get(step="draft", is_active=True)
    copied = browser.get(f"{site}{active.pk}/copy/", follow=True)
    assert copied.redirect_chain[-1][0] == f"{site}add/?from={active.pk}"
    assert active.content.split("{")[0].strip()[:20] in copied.content.decode()
    form = {"step": "draft", "content": "Write about {{ keyword }}.\n", "variables": _KEYWORD, **_NOTE}
    response = browser.post(f"{site}add/", form)
    assert response.status_code == 302
    with tenant_context(tenant):
        made = Prompt.objects.filter(step="draft").latest("version")
        assert (made.version, made.is_active, made.content) == (
            active.version + 1,
            False,
            "Write about {{ keyword }}.\n",
        )
    assert browser.post(f"{site}{made.pk}/activate/", {"_form_submitted": "on"}).status_code == 302
    with tenant_context(tenant):
        assert list(Prompt.objects.filter(step="draft", is_active=True)) == [made]
    assert [entry.resource_id for entry in entries(tenant, "prompt.activate")] == [str(made.pk)]
    assert "Write about" not in str([entry.details for entry in entries(tenant, "prompt.create")])


_KEYWORD = '[{"name": "keyword", "type": "string", "required": true}]'
_NOTE = {"note": "To see what happens."}


def test_a_draft_is_edited_and_the_edit_recorded(browser: Client, tenant: Tenant) -> None:
    page = _draft(tenant)
    html = browser.get(page).content.decode()
    assert "<textarea" in html
    form = {"content": "Now {{ keyword }}", "variables": _KEYWORD, **_NOTE}
    assert browser.post(page, form).status_code == 302
    (entry,) = entries(tenant, "prompt.change")
    assert entry.details is not None
    assert (
        entry.details["fields"] == ["author", "content", "note", "variables"]
        and len(entry.details["content_digest"]) == 64
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"content": "{{ keyword"}, "not valid Jinja2"),
        ({"content": ""}, "This field is required"),
        ({"variables": "{"}, "Enter a valid JSON"),
        ({"variables": '[{"name": "keyword", "type": "colour"}]'}, "Prompt variables"),
    ],
)
def test_a_template_that_cannot_work_is_refused_and_kept_on_the_page(
    browser: Client, tenant: Tenant, changed: dict[str, str], message: str
) -> None:
    for page in (_draft(tenant), f"/t/{tenant.id}/admin/prompts/prompt/add/"):
        form = {"step": "draft", "content": "typed {{ keyword }}", "variables": _KEYWORD, **_NOTE, **changed}
        response = browser.post(page, form)
        assert response.status_code == 200, page
        html = response.content.decode()
        assert message in html and ("typed" in html or "content" in changed), page


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_a_template_is_stored_with_lf_whatever_a_browser_sends(browser: Client, tenant: Tenant, ending: str) -> None:
    lines = ["First {{ keyword }}", "", "last", ""]
    for page in (_draft(tenant), f"/t/{tenant.id}/admin/prompts/prompt/add/"):
        form = {"step": "draft", "content": ending.join(lines), "variables": _KEYWORD, **_NOTE}
        assert browser.post(page, form).status_code == 302
        with tenant_context(tenant):
            assert Prompt.objects.latest("pk").content == "\n".join(lines)


def test_a_draft_that_a_browser_sends_back_unchanged_is_not_changed(browser: Client, tenant: Tenant) -> None:
    page = _draft(tenant, content="a\nb\n", note="unchanged")
    form = {"content": "a\r\nb\r\n", "variables": "[]", "note": "unchanged"}
    assert browser.post(page, form).status_code == 302
    assert entries(tenant, "prompt.change") == []
    with tenant_context(tenant):
        assert Prompt.objects.latest("pk").content == "a\nb\n"


def test_a_template_that_would_hang_is_refused_on_the_page(browser: Client, tenant: Tenant) -> None:
    response = browser.post(_draft(tenant), {"content": "{{ 2**(10**9) }}", "variables": "[]"})
    assert response.status_code == 200
    page = response.content.decode()
    assert "The template cannot be compiled. It takes too long." in page


@pytest.mark.parametrize(
    ("text", "message"), [("\\u0000", "a value cannot be stored (a NUL character, "), ("\\ud800", "cannot be")]
)
def test_variables_that_the_database_cannot_hold_are_refused(
    browser: Client, tenant: Tenant, text: str, message: str
) -> None:
    variables = '[{"name": "keyword", "type": "string", "description": "x' + text + '"}]'
    response = browser.post(_draft(tenant), {"content": "{{ keyword }}", "variables": variables})
    assert response.status_code == 200
    assert f"Prompt variables: {'' if 'NUL' in message else '[0].description '}{message}" in response.content.decode()


def test_a_version_that_a_run_has_used_cannot_be_edited(browser: Client, tenant: Tenant) -> None:
    from prompts.services import prompt_mark_used

    page = _draft(tenant)
    with tenant_context(tenant) as alias:
        prompt = Prompt.objects.latest("version")
        prompt_mark_used(alias=alias, prompt_ids=[prompt.pk])
    assert "<textarea" not in browser.get(page).content.decode()
    assert browser.post(page, {"content": "changed", "variables": "[]"}).status_code == 403
    with tenant_context(tenant):
        assert Prompt.objects.get(pk=prompt.pk).content == "before"


def test_the_active_version_cannot_be_edited(browser: Client, tenant: Tenant) -> None:
    with tenant_context(tenant):
        active = Prompt.objects.get(step="draft", is_active=True)
    page = f"/t/{tenant.id}/admin/prompts/prompt/{active.pk}/change/"
    assert browser.post(page, {"content": "changed", "variables": "[]"}).status_code == 403


def test_an_activation_that_is_refused_is_a_message(browser: Client, tenant: Tenant) -> None:
    page = _draft(tenant, content="{{ undeclared }}")
    path = page.replace("/change/", "/activate/")
    response = browser.post(path, {"_form_submitted": "on"}, follow=True)
    assert "undeclared variables: " in response.content.decode()


def _draft(tenant: Tenant, content: str = "before", note: str | None = None) -> str:
    """Add a draft; return its page's URL."""
    with tenant_context(tenant):
        version = 100 + Prompt.objects.count()
        prompt = Prompt.objects.create(
            step="draft", version=version, content=content, variables=[], is_active=False, note=note
        )
    return f"/t/{tenant.id}/admin/prompts/prompt/{prompt.pk}/change/"


# -- history -------------------------------------------------------------------------------------------------------


def test_the_audit_log_refuses_every_change(browser: Client, tenant: Tenant) -> None:
    page = f"/t/{tenant.id}/admin/audit/auditlog"
    assert browser.post(f"{page}/1/change/", {"action": "forged"}).status_code == 403
    assert browser.post(f"{page}/1/delete/", {"post": "yes"}).status_code == 403
    assert browser.post(f"{page}/add/", {"action": "forged"}).status_code == 403


def test_a_runs_history_is_its_audit_entries(browser: Client, filled: Filled) -> None:
    response = browser.get(f"{filled.site}runs/run/{filled.run.pk}/history/", follow=True)
    assert response.status_code == 200
    assert response.redirect_chain[0][0].startswith(f"{filled.site}audit/auditlog/?resource_type__exact=run&")


def test_logging_out_on_a_tenants_site_ends_the_one_session(browser: Client, tenant: Tenant) -> None:
    assert browser.post(f"/t/{tenant.id}/admin/logout/")["Location"] == "/admin/"
    assert browser.get("/admin/").status_code == 302


def test_the_title_of_a_page_begins_with_its_tenant(browser: Client, tenant: Tenant) -> None:
    assert f"<title>{tenant.id}:" in browser.get(f"/t/{tenant.id}/admin/").content.decode()


def test_names_of_tenants_are_escaped(browser: Client, tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(name=f"<img src=x> {uuid4().hex[:6]}")
    assert "<img src=x>" not in browser.get(f"/t/{tenant.id}/admin/").content.decode()
    assert "<img src=x>" not in browser.get("/admin/").content.decode()
