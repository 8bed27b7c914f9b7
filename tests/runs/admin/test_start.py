"""Runs are started by forms: one with a field for each declared input, or many from a list."""

from __future__ import annotations

from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from audit.models import AuditLog
from prompts.models import Prompt
from runs.models import Run
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import Fields, form_in
from tests.support.staff import Filled, give_role

VARIABLES = [
    {"name": "keyword", "type": "string", "required": True},
    {"name": "brand", "type": "string", "required": True, "description": "Whose article <b>it</b> is."},
    {"name": "words", "type": "integer", "default": 1200},
    {"name": "formal", "type": "boolean"},
    {"name": "headings", "type": "list"},
]
FIELDS = {"keyword": "tea", "language": "en", "hold": "on", "advanced": ""}


@pytest.fixture
def declaring(tenant: Tenant) -> Tenant:
    """Return the test's tenant; the prompt of its first step now declares an input of each type."""
    content = "{{ keyword }} {{ brand }} {{ words }} {{ formal }} {{ headings }}"
    with tenant_context(tenant):
        Prompt.objects.filter(step="keyword_analysis", is_active=True).update(is_active=False)
        Prompt.objects.create(
            step="keyword_analysis", version=99, content=content, variables=VARIABLES, is_active=True, note="x"
        )
    return tenant


def page(tenant: Tenant, rest: str = "add/") -> str:
    return f"/t/{tenant.id}/admin/runs/run/{rest}"


def configs(tenant: Tenant) -> list[Any]:
    with tenant_context(tenant):
        return [run.config for run in Run.objects.order_by("config__keyword")]


def fields_of(html: str) -> Fields:
    return form_in(html, "")


def test_a_form_has_a_field_for_each_declared_input(browser: Client, declaring: Tenant) -> None:
    html = browser.get(page(declaring)).content.decode()
    for name in ("brand", "words", "formal", "headings"):
        assert f'name="input-{name}"' in html
    assert "Whose article &lt;b&gt;it&lt;/b&gt; is. Required." in html and "If empty: 1200." in html
    answer = browser.post(page(declaring), FIELDS)
    assert "This field is required." in answer.content.decode() and not configs(declaring)
    wrong = {"input-brand": "x", "input-words": "many", "input-headings": "[1"}
    html = browser.post(page(declaring), {**FIELDS, **wrong}).content.decode()
    assert "Enter a whole number." in html and "Enter one item per line, or a JSON list." in html
    given = {"input-brand": "A\nB", "input-words": "5", "input-formal": "false", "input-headings": "one\n two \n"}
    assert browser.post(page(declaring), {**FIELDS, **given}).status_code == 302
    expected = {"brand": "A\nB", "words": 5, "formal": False, "headings": ["one", "two"]}
    assert configs(declaring) == [{"keyword": "tea", "language": "en", **expected}]


def test_a_run_of_some_steps_needs_only_their_inputs(browser: Client, declaring: Tenant) -> None:
    html = browser.post(page(declaring), {**FIELDS, "advanced": '{"steps": ["outline"]}'}).content.decode()
    assert "keyword_analysis, but no input or earlier step provides it" in html
    advanced = '{"steps": ["outline"], "keyword_analysis": "given"}'
    assert browser.post(page(declaring), {**FIELDS, "advanced": advanced}).status_code == 302
    html = browser.post(page(declaring), {**FIELDS, "advanced": '{"brand": "x"}'}).content.decode()
    assert "Remove brand here: the rest of the form sets it." in html


def test_the_same_form_sent_twice_starts_one_run(browser: Client, tenant: Tenant) -> None:
    form = {**FIELDS, "nonce": str(uuid4())}
    first, second = (browser.post(page(tenant), form, follow=True) for _time in range(2))
    assert first.redirect_chain == second.redirect_chain
    assert "This run had already been created." in second.content.decode()
    assert len(configs(tenant)) == 1


def test_a_form_is_filled_with_an_earlier_runs_configuration(browser: Client, declaring: Tenant) -> None:
    given = {"input-brand": "A", "input-words": "5", "input-formal": "true", "input-headings": '["[a", 2]'}
    budget = {**FIELDS, "advanced": '{"budget_usd": 2.5}'}
    browser.post(page(declaring), {**budget, **given})
    with tenant_context(declaring):
        run = Run.objects.get()
        read = AuditLog.objects.filter(action="run.read").count()
    again = browser.get(page(declaring, f"{run.pk}/start_again/"))
    assert again.status_code == 302
    form = fields_of(browser.get(again["Location"]).content.decode())
    with tenant_context(declaring):
        assert AuditLog.objects.filter(action="run.read").count() == read + 1
    assert {**form, "hold": ["on"]}["input-words"] == ["5"]
    assert browser.post(page(declaring), {**form, "hold": ["on"]}).status_code == 302
    one, other = configs(declaring)
    assert one == other and one["budget_usd"] == 2.5
    unknown = browser.get(page(declaring, f"add/?from={uuid4()}"))
    assert unknown.status_code == 200 and "There is no run" in unescape(unknown.content.decode())


def test_a_list_is_shown_before_it_is_started(browser: Client, declaring: Tenant) -> None:
    csv = 'keyword,brand,words\r\n珈琲,"<script>alert(1)</script>",\r\ntea,,7\r\n'.encode("cp932")
    form = {"language": "ja", "hold": "on", "advanced": "", "text": "", "input-brand": "A", "nonce": str(uuid4())}
    previews = [
        browser.post(page(declaring, "series/"), {**form, "file": SimpleUploadedFile("list.csv", csv)})
        for _reload in range(2)
    ]
    html = previews[0].content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "<script>alert" not in html
    assert "unknown" in html and "Start 2 runs" in html and not configs(declaring)
    for number, preview in enumerate(previews):
        sent = browser.post(page(declaring, "series/"), fields_of(preview.content.decode()), follow=True)
        said = "2 runs were created." if number == 0 else "none was created again"
        assert said in sent.content.decode()
        assert sent.request["QUERY_STRING"].startswith("series=")
    coffee, tea = sorted(configs(declaring), key=lambda config: str(config["keyword"] == "tea"))
    assert coffee["series_id"] == tea["series_id"]
    assert (coffee["keyword"], coffee["brand"]) == ("珈琲", "<script>alert(1)</script>")
    assert (tea["brand"], tea["words"]) == ("A", 7)


def test_a_wrong_list_starts_nothing(browser: Client, declaring: Tenant) -> None:
    form = {"language": "ja", "advanced": "", "input-brand": "A", "text": "keyword,words\ntea,1\ncoffee,<b>\n"}
    html = unescape(browser.post(page(declaring, "series/"), form).content.decode())
    assert (
        "Line 3: words must be a whole number of at most 18 digits, not '<b>'." in html
        and "No run was started." in html
    )
    for text, rows in (("", None), ("", "[]"), ("", '[[1, {"keyword": ""}]]'), ("", "["), ("", "[[1, 2], [1, 2]]")):
        sent = {**form, "text": text} if rows is None else {"nonce": str(uuid4()), "rows": rows}
        answer = browser.post(page(declaring, "series/"), sent, follow=True).content.decode()
        assert "Enter a list, or choose a CSV file." in answer or "could not be read" in answer
    assert configs(declaring) == []


def test_what_a_refusal_left_is_offered_again(browser: Client, declaring: Tenant) -> None:
    form = {"language": "ja", "advanced": "", "hold": "on", "input-brand": "A", "text": "tea\ncoffee"}
    fields = fields_of(browser.post(page(declaring, "series/"), form).content.decode())
    with tenant_context(declaring):
        Prompt.objects.filter(step="final", is_active=True).update(is_active=False)
    stopped = browser.post(page(declaring, "series/"), fields).content.decode()
    assert "Runs created: 0 of 2." in stopped and "has no active prompt" in stopped
    with tenant_context(declaring):
        last = Prompt.objects.filter(step="final").latest("version")
        Prompt.objects.filter(pk=last.pk).update(is_active=True)
    sent = browser.post(page(declaring, "series/"), fields_of(stopped), follow=True).content.decode()
    assert "2 runs were created." in sent


def test_who_may_only_look_starts_nothing(filled: Filled, staff: User) -> None:
    give_role(staff, "viewer", filled.tenant)
    client = Client()
    client.force_login(staff)
    for rest in ("add/", "series/"):
        assert client.get(page(filled.tenant, rest)).status_code == 403
        assert client.post(page(filled.tenant, rest), {**FIELDS, "text": "tea"}).status_code == 403
    assert client.get(page(filled.tenant, f"{filled.run.pk}/start_again/")).status_code == 403


@pytest.mark.parametrize("rows", ["[" * 100_000, '[[Infinity, {"keyword": "tea"}]]', "[[1]]", "{}"])
def test_a_forged_list_of_rows_starts_nothing(rows: str, browser: Client, tenant: Tenant) -> None:
    answer = browser.post(page(tenant, "series/"), {"nonce": uuid4(), "rows": rows}, follow=True)
    assert answer.status_code == 200 and "The list could not be read." in unescape(answer.content.decode())
    assert configs(tenant) == []


def test_items_that_are_nested_too_deeply_are_refused(browser: Client, declaring: Tenant) -> None:
    form = {**fields_of(browser.get(page(declaring)).content.decode()), **FIELDS, "input-brand": "b"}
    answer = browser.post(page(declaring), {**form, "input-headings": "[" * 100_000})
    assert answer.status_code == 200 and "Enter one item per line, or a JSON list." in unescape(answer.content.decode())
    assert configs(declaring) == []
