"""Staff cannot route a step to a model that cannot be called, or delete what is in use; each refusal says why."""

from collections.abc import Iterator
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from llm.errors import MissingKey
from llm.keys import KEY_VARIABLES
from llm.models import LLMModel, LLMProvider, StepLLMDefault
from runs.models import Step
from runs.services.cancel import run_cancel
from runs.services.create import run_create
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.config.site.forms import form_in
from tests.support.staff import give_role, make_user


@pytest.fixture
def draft_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepLLMDefault]:
    """The pipeline's step "draft", restored afterwards, and a key for every provider."""
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, "sk-test")
    default = StepLLMDefault.objects.get(pk="draft")
    yield default
    default.save()


class TestMissingKey:
    """A route to a provider whose key only the workers have is accepted only with a mark that staff set."""

    @staticmethod
    def form(draft_default: StepLLMDefault, **more: str) -> dict[str, object]:
        form = {"position": draft_default.position, "provider": "claude", "model_class": "standard"}
        return {**form, "on_truncation": "retry", **more}

    @pytest.fixture(autouse=True)
    def no_key(self, draft_default: StepLLMDefault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY")

    def test_is_refused_with_what_to_do(self, browser: Client, draft_default: StepLLMDefault) -> None:
        response = browser.post("/admin/llm/stepllmdefault/draft/change/", self.form(draft_default))
        assert response.status_code == 200
        page = response.content.decode()
        assert (
            "needs the environment variable ANTHROPIC_API_KEY, which is not set. Set it for the web server, or" in page
        )
        assert StepLLMDefault.objects.get(pk="draft").provider_id == draft_default.provider_id

    def test_is_accepted_with_the_mark_and_then_left_alone(
        self, browser: Client, draft_default: StepLLMDefault, superuser: User, tenant: Tenant
    ) -> None:
        page = "/admin/llm/stepllmdefault/draft/change/"
        assert browser.post(page, self.form(draft_default, key_at_workers="on")).status_code == 302
        row = StepLLMDefault.objects.get(pk="draft")
        assert (row.provider_id, row.key_at_workers) == ("claude", True)
        # Its other columns can be changed, and runs begin without the key.
        assert browser.post(page, self.form(draft_default, key_at_workers="on", review="on")).status_code == 302
        run = run_create(tenant_id=tenant.pk, config={"keyword": "tea", "language": "en"})
        with tenant_context(tenant) as alias:
            assert Step.objects.using(alias).get(run=run, step="draft").llm_provider == "claude"
        elsewhere = {"keyword": "tea", "language": "en", "models": {"outline": {"provider": "claude"}}}
        with pytest.raises(MissingKey):
            run_create(tenant_id=tenant.pk, config=elsewhere)
        # Without the mark, it is refused again.
        assert browser.post(page, self.form(draft_default)).status_code == 200

    def test_does_not_keep_the_list_from_being_saved(self, browser: Client, draft_default: StepLLMDefault) -> None:
        StepLLMDefault.objects.filter(pk="draft").update(provider="claude")  # its key was there then
        html = browser.get("/admin/llm/stepllmdefault/").content.decode()
        form = form_in(html, "changelist-form")
        number = next(name for name, value in form.items() if value == ["outline"]).split("-")[1]
        position = StepLLMDefault.objects.get(pk="outline").position
        form |= {f"form-{number}-position": [str(position + 1)], "_save": ["Save"]}
        assert browser.post("/admin/llm/stepllmdefault/", form).status_code == 302
        assert StepLLMDefault.objects.get(pk="outline").position == position + 1
        StepLLMDefault.objects.filter(pk="outline").update(position=position)

    def test_the_mark_does_not_hold_for_another_provider(self, browser: Client, draft_default: StepLLMDefault) -> None:
        StepLLMDefault.objects.filter(pk="draft").update(provider="openai", key_at_workers=True)
        html = browser.get("/admin/llm/stepllmdefault/").content.decode()
        form = form_in(html, "changelist-form")
        number = next(name for name, value in form.items() if value == ["draft"]).split("-")[1]
        form["_save"] = ["Save"]
        for provider, status in (("claude", 200), ("gemini", 302)):
            form[f"form-{number}-provider"] = [provider]
            assert browser.post("/admin/llm/stepllmdefault/", form).status_code == status
        row = StepLLMDefault.objects.get(pk="draft")
        assert (row.provider_id, row.key_at_workers) == ("gemini", False)

    def test_the_mark_stays_in_the_list_for_a_fallback(self, browser: Client, draft_default: StepLLMDefault) -> None:
        fallbacks = [{"provider": "claude", "model_class": "pro"}]
        row = StepLLMDefault.objects.filter(pk="draft")
        row.update(provider="openai", key_at_workers=True, fallbacks=fallbacks)
        form = form_in(browser.get("/admin/llm/stepllmdefault/").content.decode(), "changelist-form")
        number = next(name for name, value in form.items() if value == ["draft"]).split("-")[1]
        form |= {f"form-{number}-provider": ["gemini"], "_save": ["Save"]}
        assert browser.post("/admin/llm/stepllmdefault/", form).status_code == 302
        saved = row.get()
        assert (saved.provider_id, saved.key_at_workers, saved.fallbacks) == ("gemini", True, fallbacks)


class TestFallbacks:
    PAGE = "/admin/llm/stepllmdefault/draft/change/"

    @staticmethod
    def form(draft_default: StepLLMDefault, fallbacks: str, **more: str) -> dict[str, object]:
        return {**TestMissingKey.form(draft_default, **more), "fallbacks": fallbacks}

    @staticmethod
    def rows() -> object:
        return StepLLMDefault.objects.get(pk="draft").fallbacks

    def test_they_are_saved_one_a_line_and_shown_again(self, browser: Client, draft_default: StepLLMDefault) -> None:
        form = self.form(draft_default, " openai:pro \r\n\r\ngemini:standard\r\nopenai:pro")
        assert browser.post(self.PAGE, form).status_code == 302
        saved = [{"provider": "openai", "model_class": "pro"}, {"provider": "gemini", "model_class": "standard"}]
        assert self.rows() == saved
        html = browser.get(self.PAGE).content.decode()
        assert "openai:pro\ngemini:standard</textarea>" in html
        # The list, which does not show them, keeps them.
        listed = form_in(browser.get("/admin/llm/stepllmdefault/").content.decode(), "changelist-form")
        number = next(name for name, value in listed.items() if value == ["draft"]).split("-")[1]
        listed |= {f"form-{number}-provider": ["gemini"], "_save": ["Save"]}
        assert browser.post("/admin/llm/stepllmdefault/", listed).status_code == 302
        assert self.rows() == saved
        assert browser.post(self.PAGE, self.form(draft_default, "")).status_code == 302
        assert self.rows() == []

    @pytest.mark.parametrize(
        ("fallbacks", "message"),
        [
            ("openai", "Each line must be a provider and a class, such as claude:pro."),
            ("openai:big", "There is no model class 'big'"),
            ("openai:pro\nnobody:pro", "There is no LLM provider 'nobody'"),
            ("gemini:pro", "GEMINI_API_KEY, which is not set. Set it for the web server, or tick"),
        ],
    )
    def test_one_that_cannot_run_is_refused_beside_the_field(
        self,
        browser: Client,
        draft_default: StepLLMDefault,
        monkeypatch: pytest.MonkeyPatch,
        fallbacks: str,
        message: str,
    ) -> None:
        monkeypatch.delenv("GEMINI_API_KEY")
        response = browser.post(self.PAGE, self.form(draft_default, fallbacks))
        assert response.status_code == 200
        page = unescape(unescape(response.content.decode()))
        assert page.index(message) > page.index('id="id_fallbacks_error"')
        assert self.rows() == []

    def test_a_missing_key_is_accepted_with_the_mark(
        self, browser: Client, draft_default: StepLLMDefault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("GEMINI_API_KEY")
        form = self.form(draft_default, "gemini:pro", key_at_workers="on")
        assert browser.post(self.PAGE, form).status_code == 302
        assert self.rows() == [{"provider": "gemini", "model_class": "pro"}]


class TestOrder:
    """Steps are moved by their positions, which the list saves."""

    PAGE = "/admin/llm/stepllmdefault/"

    @pytest.fixture
    def positions(self, draft_default: StepLLMDefault) -> Iterator[dict[str, int]]:
        rows = list(StepLLMDefault.objects.all())
        yield {row.step: row.position for row in rows}
        for row in rows:
            StepLLMDefault.objects.filter(pk=row.pk).update(position=row.position)

    def exchanged(self, browser: Client, positions: dict[str, int]) -> dict[str, list[str]]:
        """Return the list's form with the positions of "draft" and "outline" exchanged, as the page's script would."""
        form = form_in(browser.get(self.PAGE).content.decode(), "changelist-form")
        number = {step: next(n for n, v in form.items() if v == [step]).split("-")[1] for step in ("draft", "outline")}
        form[f"form-{number['draft']}-position"] = [str(positions["outline"])]
        form[f"form-{number['outline']}-position"] = [str(positions["draft"])]
        return {**form, "_save": ["Save"]}

    def test_each_moved_step_has_an_entry_with_both_positions(
        self, browser: Client, positions: dict[str, int], draft_default: StepLLMDefault
    ) -> None:
        last = ControlAuditLog.objects.latest("id").pk
        assert browser.post(self.PAGE, self.exchanged(browser, positions)).status_code == 302
        now = dict(StepLLMDefault.objects.values_list("step", "position"))
        assert now == {**positions, "draft": positions["outline"], "outline": positions["draft"]}
        found = ControlAuditLog.objects.filter(id__gt=last, action="step_default.change").order_by("resource_id")
        changes = {entry.resource_id: (entry.details or {})["changes"]["position"] for entry in found}
        old_and_new = {"draft": ("draft", "outline"), "outline": ("outline", "draft")}
        assert changes == {step: [positions[old], positions[new]] for step, (old, new) in old_and_new.items()}

    def test_an_order_that_somebody_changed_meanwhile_is_not_replaced(
        self, browser: Client, positions: dict[str, int]
    ) -> None:
        form = self.exchanged(browser, positions)
        StepLLMDefault.objects.filter(pk="draft").update(position=77)
        response = browser.post(self.PAGE, form)
        assert response.status_code == 200
        assert "Nothing was saved: draft was changed after you opened this page." in response.content.decode()
        now = dict(StepLLMDefault.objects.values_list("step", "position"))
        assert now == {**positions, "draft": 77}

    def test_who_may_not_change_the_pipeline_cannot_move_a_step(self, browser: Client) -> None:
        assert 'aria-label="Move draft up"' in browser.get(self.PAGE).content.decode()
        user = make_user(is_superuser=False)
        give_role(user, "viewer")
        browser.force_login(user)
        html = browser.get(self.PAGE).content.decode()
        assert "draft" in html and "Move draft up" not in html and "x-sort" not in html
        user.delete()

    def test_the_list_shows_fallbacks_in_order(self, browser: Client, draft_default: StepLLMDefault) -> None:
        fallbacks = [{"provider": "openai", "model_class": "pro"}, {"provider": "gemini", "model_class": "standard"}]
        StepLLMDefault.objects.filter(pk="draft").update(fallbacks=fallbacks)
        html = browser.get(self.PAGE).content.decode()
        assert "<div>openai:pro</div><div>gemini:standard</div>" in html


class TestInUse:
    """What the pipeline or unfinished runs use is not deleted, and a model that such runs use is not renamed."""

    @pytest.fixture
    def used(self, draft_default: StepLLMDefault) -> Iterator[LLMModel]:
        provider = LLMProvider.objects.create(pk="spare", display_name="Spare", key_variable="OPENAI_API_KEY")
        model = LLMModel.objects.create(provider=provider, model_name="spare-1", model_class="pro")
        yield model
        draft_default.save()
        LLMModel.objects.filter(provider=provider).delete()
        provider.delete()

    @staticmethod
    def refusal(browser: Client, page: str) -> str:
        for send in (browser.get, browser.post):
            response = send(f"{page}delete/", {"post": "yes"}, follow=True)
            assert response.redirect_chain[-1][0] == f"{page}change/"
        return unescape(response.content.decode())

    def test_a_provider(self, browser: Client, used: LLMModel) -> None:
        page = "/admin/llm/llmprovider/spare/"
        assert "The LLM provider spare still has models: spare-1. Delete them first." in self.refusal(browser, page)
        StepLLMDefault.objects.filter(pk="draft").update(provider="spare")
        assert "The pipeline uses the LLM provider spare for draft. First route" in self.refusal(browser, page)
        assert LLMProvider.objects.filter(pk="spare").exists()

    def test_a_model_of_the_pipeline(self, browser: Client, used: LLMModel) -> None:
        page = f"/admin/llm/llmmodel/{used.pk}/"
        StepLLMDefault.objects.filter(pk="draft").update(provider="spare")
        assert "New runs may use the model spare-1 of spare for draft." in self.refusal(browser, page)
        LLMModel.objects.create(provider_id="spare", model_name="spare-2", model_class="pro")
        assert browser.post(f"{page}delete/", {"post": "yes"}).status_code == 302
        assert not LLMModel.objects.filter(pk=used.pk).exists()

    def test_a_model_of_unfinished_runs(self, browser: Client, used: LLMModel, tenant: Tenant) -> None:
        page = f"/admin/llm/llmmodel/{used.pk}/"
        models = {"final": {"provider": "spare", "model": "spare-1"}}
        run = run_create(tenant_id=tenant.pk, config={"keyword": "tea", "language": "en", "models": models}, hold=True)
        said = f"An unfinished run uses the model spare-1 of spare: run {run.pk} of tenant {tenant.pk}."
        assert said in self.refusal(browser, page)
        renamed = {"provider": "spare", "model_name": "spare-9", "model_class": "pro", "is_active": "on"}
        response = browser.post(f"{page}change/", renamed)
        assert response.status_code == 200 and said in response.content.decode()
        # Anything else of it can be changed.
        assert browser.post(f"{page}change/", {**renamed, "model_name": "spare-1", "is_active": ""}).status_code == 302
        # A run that may fall back to it needs it too.
        with tenant_context(tenant) as alias:
            pinned = [{"provider": "spare", "model": "spare-1"}]
            steps = Step.objects.using(alias).filter(run_id=run.pk, step="final")
            steps.update(llm_provider="other", llm_model="other-1", fallbacks=pinned)
        assert said in self.refusal(browser, page)
        run_cancel(tenant_id=tenant.pk, run_id=run.pk)
        assert browser.post(f"{page}change/", renamed).status_code == 302
        assert browser.post(f"{page}delete/", {"post": "yes"}).status_code == 302
        assert not LLMModel.objects.filter(pk=used.pk).exists()
