"""`llm check` reports what is wrong with a provider of any wire, and records what the call used."""

import json
import socket
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import Max
from django.test import Client

from audit.control.models import ControlAuditLog
from llm.check import MAX_OUTPUT_TOKENS, llm_check
from llm.errors import UnknownProvider
from llm.models import LLMModel, LLMProvider
from llm.types import ProviderCheck
from tests.config.site.forms import Browser
from tests.llm.conftest import KEY, Wire
from tests.llm.formats import OpenAI
from tests.llm.wire import Answer, allow_server
from tests.support.staff import give_role

pytestmark = pytest.mark.usefixtures("undone")

NewEntries = Callable[[], list[Any]]


@pytest.fixture
def pointed(wire: Wire) -> Wire:
    """Each paid provider in turn, as the only active provider, directed to the test's server."""
    LLMProvider.objects.exclude(pk=wire.provider.id).update(is_active=False)
    LLMProvider.objects.filter(pk=wire.provider.id).update(is_active=True, api_base_url=wire.base_url)
    wire.server.answer = Answer.of(wire.provider.reply("OK"))
    return wire


@pytest.fixture
def entries() -> NewEntries:
    last = ControlAuditLog.objects.aggregate(last=Max("id"))["last"] or 0
    return lambda: list(ControlAuditLog.objects.filter(id__gt=last).order_by("id").values_list("action", "details"))


def check_of(wire: Wire) -> ProviderCheck:
    (check,) = llm_check(provider_id=wire.provider.id)
    return check


def test_one_that_works_is_asked_for_one_word_by_its_cheapest_model(pointed: Wire, entries: NewEntries) -> None:
    provider = pointed.provider
    LLMModel.objects.create(
        provider_id=provider.id,
        model_name="cheap-1",
        model_class="standard",
        cost_per_1k_input_tokens=Decimal("0.000001"),
        cost_per_1k_output_tokens=Decimal("0.000001"),
    )
    LLMModel.objects.create(provider_id=provider.id, model_name="unpriced-1", model_class="standard")
    (check,) = llm_check()
    usage = provider.usage
    assert check.works and check.seconds is not None and check.seconds > 0
    assert (check.model_name, check.input_tokens, check.output_tokens) == (
        "cheap-1",
        usage.input_tokens,
        usage.output_tokens,
    )
    (seen,) = pointed.server.seen
    assert provider.asked(seen.body)[2] == MAX_OUTPUT_TOKENS
    begun = {"model": "cheap-1", "max_output_tokens": MAX_OUTPUT_TOKENS}
    (before, after) = entries()
    assert before == ("llm.check", begun)
    assert after[1].pop("request_id")
    assert after == ("llm.check", {**begun, "result": "ok", "token_usage": usage.as_document()})


@pytest.mark.parametrize(
    ("status", "message", "found"),
    [
        (401, "invalid x-api-key", ("llm_key_refused", "Check the provider's key variable")),
        (403, "not for you", ("llm_key_refused", "Check the provider's key variable")),
        (402, "no money", ("llm_quota_used_up", "Check the account's balance")),
        (429, "slow down", ("llm_rate_limited", "")),
        (404, "There is no model named model-1", ("llm_model_unknown", "Correct the model's name")),
        (500, "our fault", ("llm_http_error", "")),
    ],
)
def test_what_a_server_says_has_a_code_of_its_own(
    pointed: Wire, entries: NewEntries, status: int, message: str, found: tuple[str, str]
) -> None:
    pointed.server.answer = Answer.of(pointed.provider.error(status, message), status=status)
    check, (code, hint) = check_of(pointed), found
    assert (check.works, check.code, check.input_tokens) == (False, code, None)
    assert f"HTTP {status}" in check.message and message in check.message and check.hint.startswith(hint)
    assert [details.get("result") for _action, details in entries()] == [None, code]


@pytest.mark.parametrize("body", [b"<html>Not Found</html>", b'{"detail": "Not Found"}'])
def test_a_server_without_the_path_is_not_one_without_the_model(pointed: Wire, body: bytes) -> None:
    pointed.server.answer = Answer(body, status=404)
    check = check_of(pointed)
    assert (check.code, check.hint) == (
        "llm_url_not_found",
        "Check the provider's API base URL in the admin under Providers, or LOCAL_LLM_URL for the local LLM.",
    )


def test_a_key_that_gemini_refuses_with_status_400_is_known(gemini: Wire) -> None:
    LLMProvider.objects.filter(pk="gemini").update(api_base_url=gemini.base_url)
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [detail]}
    gemini.server.answer = Answer.of({"error": error}, status=400)
    assert check_of(gemini).code == "llm_key_refused"


def test_an_account_without_money_is_no_rate_limit(openai: Wire) -> None:
    LLMProvider.objects.filter(pk="openai").update(api_base_url=openai.base_url)
    error = {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    openai.server.answer = Answer.of({"error": error}, status=429)
    assert check_of(openai).code == "llm_quota_used_up"


def test_without_a_key_nothing_is_sent_or_recorded(
    pointed: Wire, entries: NewEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, code in (("", "llm_key_missing"), ("two words", "llm_key_invalid")):
        monkeypatch.setenv(pointed.provider.variable, value)
        check = check_of(pointed)
        assert (check.code, check.seconds) == (code, None) and pointed.provider.variable in check.message
    assert pointed.server.seen == [] and entries() == []


def test_a_host_at_which_no_one_listens_is_unreachable(
    pointed: Wire, entries: NewEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        allow_server(url, monkeypatch)
        LLMProvider.objects.filter(pk=pointed.provider.id).update(api_base_url=url)
        check = check_of(pointed)
    assert check.code == "llm_unreachable" and "refused" in check.message
    assert [details.get("result") for _action, details in entries()] == [None, "llm_unreachable"]


def test_other_reasons_of_ours_are_told_apart(pointed: Wire) -> None:
    row = LLMProvider.objects.filter(pk=pointed.provider.id)
    row.update(api_base_url="https://elsewhere.example")
    assert check_of(pointed).code == "llm_host_not_allowed"
    row.update(api_base_url="http://elsewhere.example")
    assert check_of(pointed).code == "llm_url_insecure"
    LLMModel.objects.filter(provider_id=pointed.provider.id).update(is_active=False)
    assert check_of(pointed) == ProviderCheck(
        pointed.provider.id,
        None,
        "llm_models_missing",
        f"The LLM provider {pointed.provider.id} has no active model.",
        "Add or activate one in the admin under Models and prices.",
    )
    with pytest.raises(UnknownProvider):
        llm_check(provider_id="nobody")


def test_a_model_that_only_reasoned_works(pointed: Wire) -> None:
    provider = pointed.provider
    pointed.server.answer = Answer.of(provider.reply("", finish=provider.truncated))
    check = check_of(pointed)
    assert check.works and check.output_tokens == provider.usage.output_tokens


class TestCommand:
    def test_shows_what_works(self, pointed: Wire, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("llm_check")
        out = capsys.readouterr().out
        assert pointed.provider.id in out and "works" in out and KEY not in out

    def test_fails_if_one_fails_after_showing_all(self, openai: Wire, capsys: pytest.CaptureFixture[str]) -> None:
        LLMProvider.objects.exclude(pk__in=["openai", "claude"]).update(is_active=False)
        LLMProvider.objects.filter(pk="openai").update(api_base_url=openai.base_url)
        openai.server.answer = Answer.of(OpenAI().reply("OK"))
        with pytest.raises(CommandError) as refusal:
            call_command("llm_check")
        assert (refusal.value.returncode, refusal.value.code) == (1, "llm_check_failed")  # type: ignore[attr-defined]
        assert str(refusal.value).startswith("claude: The provider claude needs the environment variable ANTHROPIC_API")
        out = capsys.readouterr().out
        assert "llm_key_missing" in out and "works" in out

    def test_prints_one_document_even_if_one_fails(self, pointed: Wire) -> None:
        pointed.server.answer = Answer.of(pointed.provider.error(401, f"bad key {KEY}"), status=401)
        out = StringIO()
        with pytest.raises(CommandError):
            call_command("llm_check", "--provider", pointed.provider.id, "--json", stdout=out)
        (document,) = json.loads(out.getvalue())
        assert (document["provider_id"], document["works"], document["code"]) == (
            pointed.provider.id,
            False,
            "llm_key_refused",
        )
        assert KEY not in out.getvalue()


class TestButton:
    def press(self, browser: Client, provider_id: str) -> str:
        address = f"/admin/llm/llmprovider/{provider_id}/check_provider/"
        response = browser.post(address, {"_form_submitted": "on"}, follow=True)
        return response.content.decode()

    def test_says_what_came(self, pointed: Wire, browser: Client) -> None:
        page = self.press(browser, pointed.provider.id)
        assert f"Provider {pointed.provider.id} works: model" in page and "(tokens: input 12, output 34)" in page
        pointed.server.answer = Answer.of(pointed.provider.error(401, "who are you"), status=401)
        page = self.press(browser, pointed.provider.id)
        assert "returned HTTP 401" in page and "who are you Check the provider&#x27;s key variable" in page

    def test_takes_the_right_to_check_providers(self, pointed: Wire) -> None:
        reader = User.objects.create_user("reader", is_staff=True)
        give_role(reader, "editor")
        client = Browser()
        client.force_login(reader)
        response = client.post(
            f"/admin/llm/llmprovider/{pointed.provider.id}/check_provider/", {"_form_submitted": "on"}
        )
        assert response.status_code == 403
        assert pointed.server.seen == []
