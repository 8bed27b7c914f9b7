"""Audit entries hold old and new values of plain settings, and pages show them as sentences."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client, RequestFactory
from django.utils import translation

from audit.control.models import ControlAuditLog
from audit.log.actions import ACTIONS
from audit.log.entries import record
from audit.log.sentences import sentences
from audit.models import AuditLog
from audit.titles import KINDS, TITLES
from config.site.sites import control_site, tenant_site
from llm.models import LLMModel
from runs.admin.runs import RunAdmin
from runs.models import Run, RunStatus, Step, StepStatus
from tenants.models import Tenant
from tenants.routing.context import current_alias, tenant_context
from tests.config.site.forms import Browser
from tests.support.staff import Filled, roles_form
from tests.test_translations import python_files


def test_every_action_has_a_title() -> None:
    assert TITLES.keys() == ACTIONS


def test_every_kind_of_thing_in_entries_has_words() -> None:
    assert sorted(set(_recorded_kinds()) - KINDS.keys()) == []
    admins: list[Any] = [admin for site in (control_site, tenant_site) for admin in site._registry.values()]
    assert {one.resource_type for one in admins if one.audit_noun or one.audit_resource} <= KINDS.keys()


def _recorded_kinds() -> Iterator[str]:
    """Yield the kinds that the sources state literally, as in `resource_type="run"`; some occur several times."""
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "resource_type":
                found = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
                yield from (str(one.value) for one in found if isinstance(one, ast.Constant))


def test_the_heading_of_an_entry_is_in_words() -> None:
    entry = AuditLog(action="step.start", resource_type="step", resource_id="7")
    assert str(entry) == "Step started: step 7"
    with translation.override("ja"):
        assert str(entry) == "工程の開始: 工程 7"
    # Those of a later or earlier release.
    assert str(AuditLog(action="x.y", resource_type="z", resource_id="7")) == "x.y: z 7"


def test_a_log_names_nothing_that_its_reader_may_not_see(
    browser: Client, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_context(filled.tenant):
        run = Run.objects.create(config={"keyword": "secret tea"}, status=RunStatus.PENDING)
        with transaction.atomic(using=current_alias()):
            record(using=current_alias(), action="run.create", resource_type="run", resource_id=str(run.pk))
    monkeypatch.setattr(RunAdmin, "has_view_permission", lambda *_given: False)
    html = browser.get(f"{filled.site}audit/auditlog/").content.decode()
    assert f">run {run.pk}<" in html and "secret tea" not in html


def test_a_log_names_runs_steps_and_people(browser: Client, superuser: User, filled: Filled) -> None:
    with tenant_context(filled.tenant):
        run = Run.objects.create(config={"keyword": "green tea"}, status=RunStatus.PENDING)
        step = Step.objects.create(run=run, step="draft", status=StepStatus.PENDING)
        with transaction.atomic(using=current_alias()):
            for kind, key in (("run", run.pk), ("step", step.pk), ("run", "not-an-id"), ("step", "9" * 40)):
                record(using=current_alias(), action="run.create", resource_type=kind, resource_id=str(key))
    page = f"{filled.site}audit/auditlog/"
    html = browser.get(page).content.decode()
    for text in ("run green tea", "step draft · green tea", "run not-an-id", f"step {'9' * 40}"):
        assert f">{text}<" in html
    history = browser.get(f"{page}?resource_type__exact=run&resource_id__exact={run.pk}")
    assert history.context["title"] == f"History of run {run.pk}"
    with transaction.atomic(using="default"):
        record(using="default", action="user.change", resource_type="user", resource_id=str(superuser.pk))
    assert f">user {superuser.username}<" in browser.get("/admin/audit_control/controlauditlog/").content.decode()


def test_every_field_of_a_form_is_shown_or_hidden(superuser: User, tenant: Tenant) -> None:
    request = RequestFactory().get("/")
    request.user = superuser
    for site in (control_site, tenant_site):
        admins: list[Any] = list(site._registry.values())
        for admin in admins:
            if not admin.audit_noun:
                continue
            with tenant_context(tenant):
                declared = getattr(admin.form, "base_fields", {})
                made = admin.get_form(request)
                # A form of Django's for all of a model's fields declares more than the page shows.
                declared = {name: field for name, field in declared.items() if name in made.base_fields}
                fields = {*made.base_fields, *declared, *admin.list_editable}
            shown, hidden = set(admin.audit_values), set(admin.audit_hidden)
            assert fields <= shown | hidden, (admin, fields - shown - hidden)
            assert not shown & hidden, admin
            secret = {field.name for field in admin.opts.get_fields() if not getattr(field, "searchable", True)}
            assert not shown & secret, admin


@pytest.mark.parametrize(
    ("details", "sentence"),
    [
        ({"name": "a/b", "changes": {"price": ["1.25", "1.5"]}}, "price of a/b changed from 1.25 to 1.5."),
        ({"name": "a/b", "changes": {"is_active": [True, False]}}, "is_active of a/b changed from yes to no."),
        ({"changes": {"limit": [None, 3]}}, "limit of 7 set to 3."),
        ({"monthly_budget_usd": {"from": "5", "to": None}}, "monthly_budget_usd of 7 removed (before: 5)."),
        ({"from": {"provider": "a"}, "to": {"provider": "b"}}, "provider of 7 changed from a to b."),
        ({"model": "a/b", "old": {"input": "1"}, "new": {"input": "2"}}, "input price of a/b changed from 1 to 2."),
        ({"name": "ann", "changes": {"roles": [["viewer all"], []]}}, "roles of ann removed (before: viewer all)."),
        # As role changes were written at first.
        ({"name": "ann", "from": [], "to": ["viewer all"]}, "value of ann set to viewer all."),
        ({"name": "x", "values": {"name": "x"}}, "name of x: x."),
    ],
)
def test_sentences(details: dict[str, object], sentence: str) -> None:
    assert sentences(details, resource_id="7", label=str) == [sentence]


def test_a_change_is_shown_with_values_and_found_by_name_and_person(browser: Browser, superuser: User) -> None:
    name = f"shown-{uuid4().hex[:8]}"
    model = LLMModel.objects.create(provider_id="openai", model_name=name, model_class="pro")
    page = f"/admin/llm/llmmodel/{model.pk}/change/"
    form = {"provider": "openai", "model_name": name, "model_class": "standard", "cost_per_1k_input_tokens": "0.0125"}
    assert browser.post(page, form).status_code == 302
    log = "/admin/audit_control/controlauditlog/"
    for query in (name[:-2], superuser.get_username()[:-1]):
        html = unescape(browser.get(log, {"q": query}).content.decode())
        assert f"USD per 1,000 input tokens of openai/{name} set to 0.0125." in html, query
        assert f"class of openai/{name} changed from pro to standard." in html and "Model changed" in html
    entry = ControlAuditLog.objects.get(resource_id=str(model.pk), action="llm.model.change")
    assert f'href="{page}"' in browser.get(f"{log}{entry.pk}/change/").content.decode()
    assert browser.post(f"/admin/llm/llmmodel/{model.pk}/delete/", {"post": "yes"}).status_code == 302
    last = ControlAuditLog.objects.get(resource_id=str(model.pk), action="llm.model.delete")
    assert last.details is not None and last.details["values"]["model_class"] == "standard"
    assert f'href="{page}"' not in browser.get(f"{log}{last.pk}/change/").content.decode()


def test_roles_are_kept_with_names_and_a_person_without_personal_data(browser: Browser, superuser: User) -> None:
    user = User.objects.create_user(f"values-{uuid4().hex[:8]}", is_staff=True)
    form = {"username": user.username, "is_active": "on", "is_staff": "on", "first_name": "Hanako", "email": "h@a.jp"}
    assert (
        browser.post(
            f"/admin/auth/user/{user.pk}/change/", form | roles_form({"role": "viewer", "scope": "all"})
        ).status_code
        == 302
    )
    entries = {one.action: one.details for one in ControlAuditLog.objects.filter(resource_id=str(user.pk))}
    assert entries["user.roles"] == {"name": user.username, "changes": {"roles": [[], ["viewer all"]]}}
    assert "Hanako" not in str(entries) and "h@a.jp" not in str(entries)
    log = f"/admin/audit_control/controlauditlog/?q={user.username}"
    assert f"roles of {user.username} set to viewer: all tenants." in browser.get(log).content.decode()
    html = browser.get(log, headers={"accept-language": "ja"}).content.decode()
    assert "閲覧者: すべてのテナント" in html and "viewer all" not in html
    user.delete()


def test_reads_are_hidden_unless_asked_for(browser: Browser, tenant: Tenant) -> None:
    from django.db import transaction

    from audit.log.actor import acting_as
    from audit.log.entries import record

    with tenant_context(tenant) as alias, transaction.atomic(using=alias), acting_as("staff:reader"):
        record(
            using=alias, action="run.read", resource_type="run", resource_id="read-by-test", details={"read": "page"}
        )
    log = f"/t/{tenant.pk}/admin/audit/auditlog/"
    shown = {
        query: "read-by-test" in browser.get(f"{log}{query}").content.decode()
        for query in ("", "?reads=all", "?reads=only")
    }
    assert shown == {"": False, "?reads=all": True, "?reads=only": True}
    assert "read-by-test" in Client.get(browser, f"{log}?event=run.read").content.decode()
