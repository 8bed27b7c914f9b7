"""Two people edit the same object: the later save is refused with both versions shown, and nothing typed is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from html import unescape
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from audit.control.models import ControlAuditLog
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from prompts.models import Prompt
from prompts.services import prompt_create
from runs.models import StepOverride
from tenants.errors import SettingsChanged
from tenants.lifecycle.budget import tenant_budget_set
from tenants.models import DatabaseServer, Tenant, TenantGroup
from tenants.routing.context import tenant_context
from tests.config.site.forms import form_in
from tests.support.staff import make_user

REFUSED = "Nothing was saved"


@pytest.fixture
def first(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


@pytest.fixture
def second() -> Iterator[Client]:
    user, client = make_user(is_superuser=True), Client()
    client.force_login(user)
    yield client
    user.delete()


@pytest.fixture
def model() -> Iterator[LLMModel]:
    made = LLMModel.objects.create(
        provider=LLMProvider.objects.get(pk="local"),
        model_name=f"edited-{uuid4().hex[:8]}",
        model_class="pro",
        cost_per_1k_input_tokens=Decimal("0.1"),
        cost_per_1k_output_tokens=Decimal("0.2"),
    )
    yield made
    LLMModel.objects.filter(pk=made.pk).delete()


@dataclass(frozen=True)
class Edited:
    """A page with a form, a field of the form, how to read the field's stored value, and two new values for it."""

    page: str
    form: str
    field: str
    stored: Callable[[], object]
    values: tuple[str, str]


def page_of(client: Client, page: str) -> str:
    return client.get(page).content.decode()


def save(client: Client, page: str, form: dict[str, Any], **changes: str) -> Any:
    return client.post(page, {**form, **changes})


@pytest.fixture
def objects(tenant: Tenant, model: LLMModel) -> Iterator[list[Edited]]:
    group = TenantGroup.objects.create(name=f"edited-{uuid4().hex[:8]}")
    user = make_user(is_superuser=False)
    server = DatabaseServer.objects.get(name="main")
    step = StepLLMDefault.objects.get(pk="final")
    provider = LLMProvider.objects.get(pk="gemini")
    with tenant_context(tenant) as alias:
        draft = prompt_create(alias=alias, step="final", content="Write {{ keyword }}.", variables=VARIABLES, note="v")
        StepOverride.objects.using(alias).create(step="draft", output_limit=100)

    def read(kind: Any, key: object, name: str) -> Callable[[], object]:
        return lambda: getattr(kind.objects.get(pk=key), name)

    def read_prompt() -> object:
        with tenant_context(tenant) as one:
            return Prompt.objects.using(one).get(pk=draft.pk).content

    def read_override() -> object:
        with tenant_context(tenant) as one:
            return str(StepOverride.objects.using(one).get(step="draft").output_limit)

    site = f"/t/{tenant.pk}/admin"
    override = f"{site}/runs/stepoverride/draft/change/"
    yield [
        Edited(
            f"/admin/llm/llmmodel/{model.pk}/change/",
            "llmmodel_form",
            "model_name",
            read(LLMModel, model.pk, "model_name"),
            ("one", "two"),
        ),
        Edited(
            "/admin/llm/llmprovider/gemini/change/",
            "llmprovider_form",
            "display_name",
            read(LLMProvider, "gemini", "display_name"),
            ("Gemini one", "Gemini two"),
        ),
        Edited(
            "/admin/llm/stepllmdefault/final/change/",
            "stepllmdefault_form",
            "on_truncation",
            read(StepLLMDefault, "final", "on_truncation"),
            ("fail", "accept"),
        ),
        Edited(
            "/admin/tenants/databaseserver/main/change/",
            "databaseserver_form",
            "wal_archive",
            read(DatabaseServer, "main", "wal_archive"),
            ("/srv/one", "/srv/two"),
        ),
        Edited(
            f"/admin/auth/user/{user.pk}/change/",
            "user_form",
            "first_name",
            read(User, user.pk, "first_name"),
            ("One", "Two"),
        ),
        Edited(
            f"/admin/tenants/tenantgroup/{group.pk}/change/",
            "tenantgroup_form",
            "name",
            read(TenantGroup, group.pk, "name"),
            (f"{group.name}-1", f"{group.name}-2"),
        ),
        Edited(
            f"{site}/prompts/prompt/{draft.pk}/change/",
            "prompt_form",
            "content",
            read_prompt,
            ("One {{ keyword }}.", "Two {{ keyword }}."),
        ),
        Edited(override, "stepoverride_form", "output_limit", read_override, ("120", "130")),
    ]
    group.delete()
    user.delete()
    step.save()
    provider.save()
    server.save(update_fields=["wal_archive", "capacity", "is_default", "is_active"])
    with tenant_context(tenant) as alias:
        StepOverride.objects.using(alias).filter(step="draft").delete()


VARIABLES = [{"name": "keyword", "type": "string", "required": True}]


def test_a_later_save_is_refused_until_it_is_repeated(
    objects: list[Edited], first: Client, second: Client, superuser: User
) -> None:
    for one in objects:
        shown_first = form_in(page_of(first, one.page), one.form)
        shown_second = form_in(page_of(second, one.page), one.form)
        ours, theirs = one.values
        assert save(first, one.page, shown_first, **{one.field: ours}).status_code == 302, one.page
        assert one.stored() == ours
        refused = save(second, one.page, shown_second, **{one.field: theirs})
        html = unescape(refused.content.decode())
        assert (refused.status_code, one.stored()) == (200, ours), one.page
        # Both versions, and the person who saved the other one; what was typed stays in its field.
        again = form_in(refused.content.decode(), one.form)
        assert REFUSED in html and ours in html.split('id="conflict"')[1] and again[one.field] == [theirs], one.page
        # What happened comes first, then both versions, then the fields.
        order = (REFUSED, 'id="conflict"', f'<a href="{one.page}"', f'name="{one.field}"')
        assert sorted(order, key=html.index) == list(order), one.page
        assert f"an entry by {User.objects.get(pk=first.session['_auth_user_id'])} at " in html, one.page
        # A form that says nothing, such as one of a script, is refused too.
        bare = {name: value for name, value in shown_second.items() if name != "_seen"}
        assert save(second, one.page, bare, **{one.field: theirs}).status_code == 200 and one.stored() == ours
        assert second.post(one.page, again).status_code == 302, one.page
        assert one.stored() == theirs


def test_long_texts_are_compared_by_line(tenant: Tenant, first: Client, second: Client) -> None:
    lines = [f"Line {number} {{{{ keyword }}}}" for number in range(20)]
    with tenant_context(tenant) as alias:
        draft = prompt_create(alias=alias, step="final", content="\n".join(lines), variables=VARIABLES, note="v")
    page = f"/t/{tenant.pk}/admin/prompts/prompt/{draft.pk}/change/"
    shown = {one: form_in(page_of(one, page), "prompt_form") for one in (first, second)}
    theirs, ours = ["\n".join([*lines[:10], text, *lines[10:]]) for text in ("Theirs <b>", "Ours <i>")]
    assert save(first, page, shown[first], content=theirs).status_code == 302
    refused = save(second, page, shown[second], content=ours).content.decode()
    conflict = refused.split('id="conflict"')[1]
    compared, whole = conflict.split("<details", 1)
    assert '<span class="seo-gen-removed">-Theirs &lt;b&gt;\n</span>' in compared
    assert '<span class="seo-gen-added">+Ours &lt;i&gt;\n</span>' in compared
    assert "Line 1 " not in compared
    # Both versions can be opened, and what was typed is in its field.
    assert "Theirs &lt;b&gt;" in whole and "Ours &lt;i&gt;" in whole
    assert form_in(refused, "prompt_form")["content"] == [ours]


def test_an_editable_list_keeps_what_others_saved(model: LLMModel, first: Client, second: Client) -> None:
    other = LLMModel.objects.create(provider_id="local", model_name=f"{model.model_name}-b", model_class="standard")
    page = f"/admin/llm/llmmodel/?q={model.model_name}"

    def row_of(form: dict[str, Any], one: LLMModel) -> str:
        return next(name for name, value in form.items() if value == [str(one.pk)]).removesuffix("-id")

    try:
        old = {**form_in(page_of(second, page), "changelist-form"), "_save": ["Save"]}
        new = {**form_in(page_of(first, page), "changelist-form"), "_save": ["Save"]}
        new[f"{row_of(new, model)}-cost_per_1k_input_tokens"] = ["0.111"]
        assert first.post(page, new).status_code == 302
        # Another row was edited: nothing is lost.
        old[f"{row_of(old, other)}-cost_per_1k_input_tokens"] = ["0.5"]
        assert second.post(page, old).status_code == 302
        model.refresh_from_db()
        other.refresh_from_db()
        assert (model.cost_per_1k_input_tokens, other.cost_per_1k_input_tokens) == (Decimal("0.111"), Decimal("0.5"))
        # The same row was edited: it is refused, with both versions.
        old[f"{row_of(old, model)}-cost_per_1k_output_tokens"] = ["0.222"]
        refused = second.post(page, old)
        html = unescape(refused.content.decode())
        assert refused.status_code == 200 and "the stored value is 0.111, yours is 0.1" in html and REFUSED in html
        model.refresh_from_db()
        assert model.cost_per_1k_output_tokens == Decimal("0.2")
        again = {**form_in(refused.content.decode(), "changelist-form"), "_save": ["Save"]}
        assert second.post(page, again).status_code == 302
        model.refresh_from_db()
        assert model.cost_per_1k_output_tokens == Decimal("0.222")
        bare = {name: value for name, value in old.items() if name != "form-SEEN"}
        bare[f"{row_of(old, model)}-cost_per_1k_input_tokens"] = ["9"]
        assert second.post(page, bare).status_code == 200
    finally:
        other.delete()


def test_dialogs_refuse_values_that_replace_unseen_ones(tenant: Tenant, first: Client, second: Client) -> None:
    for action, field, theirs, ours in (
        ("budget", "monthly_budget_usd", "20", "10"),
        ("limit", "steps", "4", "3"),
    ):
        page = f"/admin/tenants/tenant/{tenant.pk}/{action}/"
        shown = {one: form_in(page_of(one, page), "") for one in (first, second)}
        assert first.post(page, {**shown[first], "_form_submitted": "on", field: ours}).status_code == 302
        refused = second.post(page, {**shown[second], "_form_submitted": "on", field: theirs})
        html = unescape(refused.content.decode())
        assert refused.status_code == 200 and REFUSED in html and f"Stored now: {ours}." in html
        again = form_in(refused.content.decode(), "")
        assert again[field] == [theirs]
        assert second.post(page, {**again, "_form_submitted": "on"}).status_code == 302
        assert second.post(page, {"_form_submitted": "on", field: "7"}).status_code == 200
    tenant.refresh_from_db()
    assert (tenant.monthly_budget_usd, tenant.max_concurrent_steps) == (Decimal(20), 4)
    with pytest.raises(SettingsChanged):
        tenant_budget_set(
            tenant_id=tenant.pk,
            budgets={"monthly_budget_usd": None},
            expected={"monthly_budget_usd": Decimal(10)},
        )


def test_prices_of_all_units_refuse_values_that_replace_unseen_ones(
    model: LLMModel, first: Client, second: Client
) -> None:
    page = f"/admin/llm/llmmodel/{model.pk}/set_prices/"
    shown = {one: form_in(page_of(one, page), "") for one in (first, second)}
    assert first.post(page, {**shown[first], "input": "0.3"}).status_code == 302
    refused = second.post(page, {**shown[second], "output": "0.4"})
    html = unescape(refused.content.decode())
    assert refused.status_code == 200 and REFUSED in html and "Stored now: 0.3." in html
    assert second.post(page, form_in(refused.content.decode(), "")).status_code == 302
    model.refresh_from_db()
    assert (model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens) == (Decimal("0.1"), Decimal("0.4"))


def test_a_changed_object_is_not_deleted_unasked(first: Client, second: Client) -> None:
    group = TenantGroup.objects.create(name=f"edited-{uuid4().hex[:8]}")
    page = f"/admin/tenants/tenantgroup/{group.pk}/delete/"
    shown = form_in(page_of(second, page), "")
    TenantGroup.objects.filter(pk=group.pk).update(name=f"{group.name}-new")
    for form in (shown, {"post": "yes"}):
        asked = second.post(page, form, follow=True)
        html = asked.content.decode()
        assert "Nothing was deleted" in html and f"{group.name}-new" in html
        assert TenantGroup.objects.filter(pk=group.pk).exists()
    assert second.post(page, form_in(html, "")).status_code == 302
    assert not TenantGroup.objects.filter(pk=group.pk).exists()


def test_of_two_saves_at_the_same_moment_one_is_refused(model: LLMModel, first: Client, second: Client) -> None:
    page = f"/admin/llm/llmmodel/{model.pk}/change/"

    def post(client: Client, form: dict[str, Any], start: Barrier) -> int:
        try:
            start.wait(timeout=30)
            return int(client.post(page, form).status_code)
        finally:
            connections.close_all()

    for _attempt in range(5):
        shown = form_in(page_of(first, page), "llmmodel_form")
        names = [f"race-{uuid4().hex[:8]}" for _ in range(2)]
        start = Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            futures = [
                pool.submit(post, client, {**shown, "model_name": name}, start)
                for client, name in zip((first, second), names, strict=True)
            ]
            found = [future.result() for future in futures]
        assert sorted(found) == [200, 302]
        model.refresh_from_db()
        assert model.model_name == names[found.index(302)]
    entries = ControlAuditLog.objects.filter(resource_id=str(model.pk), action="llm.model.change")
    assert entries.count() == 5
