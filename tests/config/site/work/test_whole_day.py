"""A whole day of a tenant, from its creation to its erasure, as staff see it: in English and in Japanese.

The servers are the real ones: gunicorn, a Celery worker, PostgreSQL, the broker and the local LLM.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from config import stack
from llm.models import LLMModel, StepLLMDefault
from prompts.models import Prompt
from tenants.models import Erasure, OperationRequest, Tenant
from tenants.routing.context import tenant_context
from tests.config.site.work.day import ENGLISH, JAPANESE, Day, Words
from tests.support.browser.chromium import CHROMIUM, DRIVER, Browser
from tests.support.servers import embedded_llm
from tests.support.staff import PASSWORD
from tests.support.tenant_fixtures import remove_all
from tests.tenants.support.erased import forget_erasure

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium or chromedriver on the PATH"),
]

SERVERS = ("worker", "beat", "web")
MODEL = "SmolLM2-135M-Instruct"
# So few tokens that the model answers within a second.
TOKENS = 24


@pytest.fixture(scope="module")
def served(stack_home: stack.Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the admin: gunicorn beside a worker and beat, on a queue of their own, with the local LLM."""
    folder = tmp_path_factory.mktemp("day")
    with embedded_llm(folder / "llm") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_LLM_URL", url)
        # A sweep brings what the calls cost to the page of costs.
        patch.setenv("RUN_SWEEP_INTERVAL_S", "1")
        patch.setenv("BACKUP_OUTPUT", str(folder / "backups"))
        patch.setenv("CELERY_QUEUE", f"test-{uuid.uuid4().hex[:12]}")
        stack.start(stack_home, SERVERS)
        try:
            port = next(service.port for service in stack.status(stack_home) if service.name == "web")
            yield f"http://127.0.0.1:{port}"
        finally:
            stack.stop(stack_home, SERVERS)


@pytest.fixture
def catalogue() -> Iterator[None]:
    """Restore the pipeline and the local model after the test."""
    steps, model = list(StepLLMDefault.objects.all()), LLMModel.objects.get(model_name=MODEL)
    yield
    for row in (*steps, model):
        row.save()


@pytest.fixture
def tenant_id() -> Iterator[str]:
    name = f"day-{uuid.uuid4().hex[:8]}"
    yield name
    for row in Erasure.objects.filter(tenant_id=name):
        forget_erasure(row)
    OperationRequest.objects.filter(tenant_id=name).delete()
    remove_all([name])


@pytest.fixture(params=[ENGLISH, JAPANESE], ids=["en", "ja"])
def day(request: pytest.FixtureRequest, driver: Chrome, served: str) -> Iterator[Day]:
    words: Words = request.param
    browser = Browser(driver, served)
    yield Day(browser, words)
    browser.forget()


@pytest.mark.usefixtures("catalogue")
@pytest.mark.timeout(600)
def test_a_tenants_day_from_creation_to_erasure(day: Day, superuser: User, tenant_id: str) -> None:
    log_in(day, superuser)
    create_tenant(day, tenant_id)
    set_up_pipeline(day)
    try_and_activate_a_prompt(day, tenant_id)
    write_an_article(day, tenant_id)
    look_at_its_cost(day, tenant_id)
    read_the_tenants_log(day, tenant_id, superuser)
    back_up(day, tenant_id)
    restore_and_undo(day, tenant_id)
    erase(day, tenant_id)
    read_the_control_log(day, tenant_id, superuser)


def log_in(day: Day, user: User) -> None:
    day.browser.open("/admin/")
    if day.words.language != "en":
        day.click(f"button[lang={day.words.language}]")
    day.see(day.words.log_in)
    day.browser.fill(username=user.username, password=PASSWORD)
    day.send(button="#login-form button[type=submit]")
    assert day.browser.path == "/admin/"


def create_tenant(day: Day, tenant_id: str) -> None:
    day.follow("/admin/tenants/tenant/")
    day.follow("/admin/tenants/tenant/add/")
    day.browser.fill(name=f"茶屋 {tenant_id}", tenant_id=tenant_id)
    day.send(tenant_id)
    assert day.browser.path == f"/admin/tenants/tenant/{tenant_id}/change/"
    assert Tenant.objects.get(pk=tenant_id).status == "active"


def set_up_pipeline(day: Day) -> None:
    """Set prices and a limit of the local model (without keys, all steps use it), and a review before the last step."""
    model = LLMModel.objects.get(model_name=MODEL)
    day.open(f"/admin/llm/llmmodel/{model.pk}/change/")
    day.browser.fill(cost_per_1k_input_tokens="0.5", cost_per_1k_output_tokens="1.5", max_output_tokens=str(TOKENS))
    day.send(button="[name=_save]")
    day.follow("/admin/llm/stepllmdefault/")
    day.follow("/admin/llm/stepllmdefault/final/change/")
    day.switch_on("review")
    day.send(button="[name=_save]")


def try_and_activate_a_prompt(day: Day, tenant_id: str) -> None:
    site = f"/t/{tenant_id}/admin"
    with tenant_context(tenant_id):
        active = Prompt.objects.get(step="keyword_analysis", is_active=True)
    day.open(f"{site}/")
    day.follow(f"{site}/prompts/prompt/")
    day.follow(f"{site}/prompts/prompt/{active.pk}/change/")
    day.follow("/copy/")
    day.append("content", "\nBe brief.")
    day.browser.fill(note="Shorter.")
    day.send(day.words.created)
    page = day.browser.path
    day.append("content", "\nName no brands.")
    day.send(button="[name=_continue]")
    day.follow("/try_out/")
    day.browser.fill(inputs='{"keyword": "green tea", "language": "en"}')
    day.send(MODEL, button="[name=preview]")
    assert "Name no brands." in day.text
    day.send(day.words.output, button="[name=call]")
    day.open(page)
    day.send(day.words.uses, button="[name=prompts_prompt_save_and_activate]")
    with tenant_context(tenant_id):
        made = Prompt.objects.get(step="keyword_analysis", is_active=True)
    assert made.version == active.version + 1
    assert "Be brief.\nName no brands." in made.content


def write_an_article(day: Day, tenant_id: str) -> None:
    site = f"/t/{tenant_id}/admin"
    limit_output(day, site)
    day.follow(f"{site}/runs/run/")
    day.follow(f"{site}/runs/run/add/")
    day.browser.fill(keyword="green tea")
    day.choose("language", "en")
    day.browser.click("#content form summary")
    day.browser.fill(advanced='{"on_truncation": "accept"}')
    day.send(day.words.started)
    day.watch(day.words.advice, "3 / 4")
    page = day.browser.path
    day.click("#run-texts", "green tea")
    assert "draft" in day.text
    day.open(page)
    day.browser.click("#run-live a[href$='/approve/']")
    day.watch(day.words.ask)
    day.send(day.words.approved, button="#dialog button[type=submit]")
    day.watch(day.words.completed, "4 / 4")
    day.click("#run-texts", "final")
    day.open(page, day.words.completed)


def limit_output(day: Day, site: str) -> None:
    """Set and change a step's output limit for the tenant, so that its log has an old and a new value."""
    day.follow(f"{site}/runs/stepoverride/")
    day.follow(f"{site}/runs/stepoverride/add/")
    day.choose("step", "outline")
    day.browser.fill(output_limit="17")
    day.send(button="[name=_continue]")
    day.browser.fill(output_limit="19")
    day.send(button="[name=_save]")


def look_at_its_cost(day: Day, tenant_id: str) -> None:
    day.follow(f"/t/{tenant_id}/admin/costs/")
    assert day.words.costs in day.browser.driver.title
    day.open_until(day.browser.path, "canvas.chart")
    *earlier, (today, cost) = day.chart().items()
    assert today == f"{datetime.now(UTC):%Y-%m-%d}" and cost > 0 and not any(amount for _day, amount in earlier)
    assert str(cost) in day.text


def read_the_tenants_log(day: Day, tenant_id: str, user: User) -> None:
    words = day.words
    day.follow(f"/t/{tenant_id}/admin/audit/auditlog/", *words.entries, user.username)
    assert words.changed.format(old="17", new="19") in day.text


def back_up(day: Day, tenant_id: str) -> None:
    day.open(f"/admin/tenants/tenant/{tenant_id}/change/")
    day.pick(f"/{tenant_id}/back-up/", day.words.back_up)
    day.send()
    day.watch(day.words.done, day.words.finished)
    with tenant_context(tenant_id):
        active = Prompt.objects.get(step="keyword_analysis", is_active=True)
    day.open(f"/t/{tenant_id}/admin/prompts/prompt/{active.pk}/change/")
    day.browser.click("a[href$='/roll_back/']")
    day.watch(day.words.roll_back)
    day.send(day.words.uses, button="#dialog button[type=submit]")
    assert active_version(tenant_id) == active.version - 1


def restore_and_undo(day: Day, tenant_id: str) -> None:
    before = active_version(tenant_id)
    day.open(f"/admin/tenants/tenant/{tenant_id}/change/")
    day.pick(f"/{tenant_id}/restore/", day.words.restore)
    choice = day.browser.find("select[name=backup] option:last-child").get_attribute("value")
    day.choose("backup", str(choice))
    day.browser.fill(reason="The prompt was rolled back by mistake.", typed_id=tenant_id)
    day.send()
    day.watch(day.words.done)
    assert active_version(tenant_id) == before + 1
    day.open(f"/admin/tenants/tenant/{tenant_id}/change/")
    day.pick(f"/{tenant_id}/undo/", day.words.undo)
    day.browser.fill(reason="It was no mistake.", typed_id=tenant_id)
    day.send()
    day.watch(day.words.done)
    assert active_version(tenant_id) == before


def erase(day: Day, tenant_id: str) -> None:
    day.open(f"/admin/tenants/tenant/{tenant_id}/change/")
    day.follow("/erase/", day.words.delete)
    day.browser.fill(reason="The customer has left.", typed_id="another-tenant")
    losses = losses_shown(day)
    day.send(day.words.wrong_id)
    assert losses_shown(day) == losses
    day.browser.fill(typed_id=tenant_id)
    day.send()
    day.watch(day.words.done)
    erasure = Erasure.objects.get(tenant_id=tenant_id)
    day.follow(f"/admin/tenants/erasure/{erasure.pk}/change/", day.words.certificate, str(erasure.digest))
    assert day.download("a[href$='/certificate/']") == erasure.digest
    assert Tenant.objects.get(pk=tenant_id).status == "deleted"


def losses_shown(day: Day) -> str:
    """Return what the page says would be lost, without its counts: the tenant's worker may still write entries."""
    return re.sub(r"\d[\d,.]*", "", day.browser.find("#content .seo-gen-operation-error").text)


def read_the_control_log(day: Day, tenant_id: str, user: User) -> None:
    log, words = "/admin/audit_control/controlauditlog/", day.words
    day.follow(log)
    day.open(f"{log}?q={tenant_id}", *words.control_entries, user.username)
    day.open(f"{log}?event=llm.model.change", words.changed.format(old="320", new=str(TOKENS)))
    day.open(f"{log}?event=step_default.change", words.changed.format(old=words.no, new=words.yes))


def active_version(tenant_id: str) -> int:
    with tenant_context(tenant_id):
        return Prompt.objects.get(step="keyword_analysis", is_active=True).version
