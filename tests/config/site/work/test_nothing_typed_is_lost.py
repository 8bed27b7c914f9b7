"""What was typed on a page is saved by its buttons or kept if there is an error; the page asks before it is left."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from selenium.webdriver.common.by import By

from llm.models import LLMModel
from prompts.models import Prompt
from prompts.services import prompt_create
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.staff import Filled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]

# The driver answers the browser's own question by itself, so it is asked for as the browser does.
ASKS = "return !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"


def asks_before_leaving(browser: Browser) -> bool:
    return bool(browser.driver.execute_script(ASKS))


def draft_of(tenant: Tenant) -> Prompt:
    with tenant_context(tenant) as alias:
        active = Prompt.objects.get(step="outline", is_active=True)
        return prompt_create(
            alias=alias, step="outline", content=active.content, variables=active.variables, note="A draft."
        )


def test_a_draft_is_saved_before_it_is_activated_and_not_left_without_a_question(
    staffed: Browser, tenant: Tenant
) -> None:
    draft = draft_of(tenant)
    staffed.open(f"/t/{tenant.id}/admin/prompts/prompt/{draft.pk}/change/")
    assert not asks_before_leaving(staffed)
    staffed.driver.find_element(By.NAME, "content").send_keys("\nTyped before Try was pressed.")
    assert asks_before_leaving(staffed)
    staffed.click("[name=prompts_prompt_save_and_activate]")
    staffed.wait_for_text("is now active.")
    with tenant_context(tenant):
        draft.refresh_from_db()
    assert draft.is_active and draft.content.endswith("Typed before Try was pressed.")


def test_a_new_version_with_an_error_keeps_what_was_typed(staffed: Browser, filled: Filled) -> None:
    staffed.open(f"{filled.site}prompts/prompt/add/")
    staffed.driver.find_element(By.NAME, "content").send_keys("Write about {{ nothing_declared }}.")
    assert asks_before_leaving(staffed)
    staffed.fill(note="A test.")
    staffed.click("#content button[name=_activate]")
    staffed.wait_for_text("nothing_declared")
    assert "{{ nothing_declared }}" in str(staffed.find("[name=content]").get_attribute("value"))
    staffed.wait_until(lambda: asks_before_leaving(staffed))
    assert staffed.complaints() == []


def test_a_model_with_an_error_keeps_what_was_typed(staffed: Browser, superuser: User) -> None:
    model = LLMModel.objects.order_by("pk")[0]
    staffed.open(f"/admin/llm/llmmodel/{model.pk}/change/")
    assert not asks_before_leaving(staffed)
    staffed.fill(max_output_tokens="4321", cost_per_1k_input_tokens="-1")
    assert asks_before_leaving(staffed)
    staffed.click("[name=_continue]")
    staffed.wait_for_text("A price must be at least 0.")
    assert staffed.find("[name=max_output_tokens]").get_attribute("value") == "4321"
    staffed.wait_until(lambda: asks_before_leaving(staffed))
    assert staffed.complaints() == []


def test_what_was_typed_to_start_a_run_or_to_delete_a_tenant_is_not_left_without_a_question(
    staffed: Browser, filled: Filled
) -> None:
    for page in (f"{filled.site}runs/run/add/", f"/admin/tenants/tenant/{filled.tenant.id}/erase/"):
        staffed.open(page)
        assert not asks_before_leaving(staffed), page
        staffed.find("#content [name=keyword], #content [name=reason]").send_keys("typed")
        assert asks_before_leaving(staffed), page
