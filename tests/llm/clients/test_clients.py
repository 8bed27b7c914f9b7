"""The clients over HTTP, against fake servers; the local one also against the embedded LLM."""

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.conf import settings

from llm.clients.compatible import CompatibleClient
from llm.clients.openai import OpenAIClient
from llm.clients.registry import client_for
from llm.context import estimated_tokens, fewest_tokens
from llm.errors import (
    InvalidBaseURL,
    InvalidKey,
    LLMError,
    LLMPermanentError,
    LLMTransientError,
    MissingKey,
    UnknownWire,
)
from llm.types import LLMRequest, ProviderAccess, TokenUsage
from tests.llm.access import access_of
from tests.llm.conftest import KEY, PROMPT, SYSTEM, Wire
from tests.llm.formats import Claude, Gemini, OpenAI
from tests.llm.wire import Answer, WireServer, allow_server
from tests.support.servers import embedded_llm

# Texts whose token counts differ widely between vocabularies.
TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog. " * 10,
    "long words": "internationalization telecommunications characteristics " * 10,
    "Japanese": "コーヒーミルの選び方を初心者向けに説明します。" * 5,
    "spaces": " " * 300,
    "line": "-" * 300,
    "JSON": '{"a": [1, 2, 3]}\n' * 10,
}


def failure(wire: Wire, answer: Answer, *, timeout_s: float = 20, stall_timeout_s: float | None = None) -> LLMError:
    """Return the error of a call that gets this answer, after checking what all errors have in common."""
    wire.server.answer = answer
    with pytest.raises(LLMError) as caught:
        wire.complete(timeout_s=timeout_s, stall_timeout_s=stall_timeout_s)
    error = caught.value
    assert len(wire.server.seen) == 1, "the SDK tried again by itself"
    assert wire.provider.id in str(error)
    assert "model-1" in str(error)
    assert_no_secrets(str(error))
    assert error.__context__ is None or error.__suppress_context__
    return error


def assert_no_secrets(text: str) -> None:
    for secret in (KEY, SYSTEM, *PROMPT.splitlines()):
        assert secret not in text


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
class TestReply:
    def test_returns_text_usage_model_and_finish_reason(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("雨傘の記事"))
        reply = wire.complete()
        assert reply.text == "雨傘の記事"
        assert reply.usage == wire.provider.usage
        assert reply.model == "model-1-20261101"
        assert reply.finish_reason == wire.provider.finished
        assert not reply.truncated

    def test_one_request_carries_key_model_prompt_system_and_limit(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("ok"))
        wire.complete()
        (seen,) = wire.server.seen
        assert seen.path == wire.provider.path("model-1")
        assert seen.headers[wire.provider.key_header].removeprefix("Bearer ") == KEY
        assert wire.provider.asked(seen.body) == (SYSTEM, PROMPT, 777)
        assert seen.body.get("model", "model-1") == "model-1"

    def test_without_a_system_text_none_is_sent(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("ok"))
        wire.complete(system="")
        (seen,) = wire.server.seen
        assert wire.provider.asked(seen.body) == ("", PROMPT, 777)
        assert '"system"' not in repr(seen.body).replace("'", '"')

    def test_a_text_truncated_at_the_limit_is_a_reply_marked_so(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("half a sen", finish=wire.provider.truncated))
        reply = wire.complete()
        assert reply.text == "half a sen"
        assert reply.finish_reason == wire.provider.truncated
        assert reply.truncated

    def test_an_unknown_finish_reason_is_accepted(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("text", finish="brand_new"))
        assert wire.complete().finish_reason == "brand_new"

    def test_a_limit_reached_without_text_is_permanent(self, wire: Wire) -> None:
        error = failure(wire, Answer.of(wire.provider.reply("", finish=wire.provider.truncated)))
        assert isinstance(error, LLMPermanentError)
        assert "reached its output limit" in str(error)
        assert error.usage == wire.provider.usage

    def test_no_text_is_transient_and_counted(self, wire: Wire) -> None:
        error = failure(wire, Answer.of(wire.provider.reply(" \n ")))
        assert isinstance(error, LLMTransientError)
        assert "returned no text" in str(error)
        assert error.usage == wire.provider.usage

    def test_a_refusal_is_permanent_counted_and_says_why(self, wire: Wire) -> None:
        error = failure(wire, Answer.of(wire.provider.refusal()))
        assert isinstance(error, LLMPermanentError)
        assert "refused" in str(error)
        assert ("not for me" in str(error)) == wire.provider.explains_refusals
        assert error.usage == wire.provider.usage

    def test_a_reply_without_usage_is_permanent(self, wire: Wire) -> None:
        error = failure(wire, Answer.of(wire.provider.without_usage()))
        assert isinstance(error, LLMPermanentError)
        assert "returned no token counts" in str(error)

    def test_a_prompt_that_gemini_blocks_is_a_refusal(self, gemini: Wire) -> None:
        blocked = {
            "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12},
            "modelVersion": "model-1",
        }
        error = failure(gemini, Answer.of(blocked))
        assert isinstance(error, LLMPermanentError)
        assert "refused to answer (PROHIBITED_CONTENT)" in str(error)
        assert error.usage == TokenUsage(12, 0)


class TestRefusedRequests:
    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 501])
    def test_are_permanent_with_the_providers_words(self, wire: Wire, status: int) -> None:
        error = failure(wire, Answer.of(wire.provider.error(status, "model: model-1 is not for you"), status))
        assert isinstance(error, LLMPermanentError)
        assert error.permanent
        assert f"HTTP {status}" in str(error)
        assert "model: model-1 is not for you" in str(error)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (
                {"detail": [{"loc": ["body", "n"], "msg": "field required", "type": "x"}]},
                "body.n: field required",
            ),
            ({"detail": "Not Found here"}, "Not Found here"),
            ({"message": "no capacity"}, "no capacity"),
            ({"error": "no such model"}, "no such model"),
            ([{"error": {"message": "quota"}}], "quota"),
            ({"error": {"message": None}}, "Unprocessable Entity"),
            ({"error": {"message": "a\0b\ud800"}}, "ab\ufffd"),
        ],
    )
    def test_each_known_form_of_an_errors_body_is_read(self, openai: Wire, body: object, said: str) -> None:
        assert str(failure(openai, Answer.of(body, 422))).endswith(f": {said}")

    def test_quotes_of_key_and_prompt_are_redacted(self, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
        said = f"Incorrect API key provided: {KEY}, while reading {PROMPT!r} and {SYSTEM} " + "x" * 5000
        with caplog.at_level(logging.DEBUG):
            error = failure(wire, Answer.of(wire.provider.error(401, said), 401))
        assert "Incorrect API key provided: …, while" in str(error)
        assert len(str(error)) < 700
        assert_no_secrets(caplog.text)

    def test_a_page_instead_of_json_gives_the_status(self, wire: Wire) -> None:
        error = failure(wire, Answer(b"<html>nginx</html>", 404, {"Content-Type": "text/html"}))
        assert isinstance(error, LLMPermanentError)
        assert "HTTP 404" in str(error)
        assert "html" not in str(error)

    def test_a_redirect_is_not_followed(self, wire: Wire) -> None:
        error = failure(wire, Answer(b"", 307, {"Location": "http://127.0.0.1:9/elsewhere"}))
        assert isinstance(error, LLMPermanentError)
        assert "HTTP 307" in str(error)

    def test_openais_empty_account_is_permanent_although_it_is_429(self, openai: Wire) -> None:
        body = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota", "type": "x"}}
        assert isinstance(failure(openai, Answer.of(body, 429)), LLMPermanentError)


class TestBusyProviders:
    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
    def test_are_transient_with_the_providers_words(self, wire: Wire, status: int) -> None:
        error = failure(wire, Answer.of(wire.provider.error(status, "Overloaded, come back"), status))
        assert isinstance(error, LLMTransientError)
        assert not error.permanent
        assert error.retry_after_s is None
        assert f"HTTP {status}" in str(error)
        assert "Overloaded, come back" in str(error)

    @pytest.mark.parametrize("status", [429, 503, 529])
    def test_retry_after_in_seconds(self, wire: Wire, status: int) -> None:
        error = failure(wire, Answer.of(wire.provider.error(status, "slow"), status, retry_after="17"))
        assert error.retry_after_s == 17

    def test_retry_after_as_a_date(self, wire: Wire) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=90)
        answer = Answer.of(wire.provider.error(429, "slow"), 429, retry_after=format_datetime(moment, usegmt=True))
        wait = failure(wire, answer).retry_after_s
        assert wait is not None
        assert 60 < wait <= 90

    @pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", "Mon, 99 Foo 2026", ""])
    def test_an_invalid_retry_after_is_ignored(self, wire: Wire, value: str) -> None:
        assert failure(wire, Answer.of(wire.provider.error(429, "slow"), 429, retry_after=value)).retry_after_s is None

    def test_geminis_retry_info_in_the_body(self, gemini: Wire) -> None:
        body = gemini.provider.error(429, "Quota exceeded")
        body["error"]["details"] = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ]
        assert failure(gemini, Answer.of(body, 429)).retry_after_s == 34.5

    def test_openais_milliseconds_are_preferred(self, openai: Wire) -> None:
        answer = Answer.of(openai.provider.error(429, "slow"), 429, retry_after_ms="1500", retry_after="2")
        assert failure(openai, answer).retry_after_s == 1.5


class TestBrokenAnswers:
    def test_silence_is_a_transient_timeout(self, wire: Wire) -> None:
        error = failure(wire, Answer(silent=True), timeout_s=0.3)
        assert isinstance(error, LLMTransientError)
        assert "within 0.3 s" in str(error)

    def test_a_body_that_trickles_for_ever_is_a_transient_timeout(self, wire: Wire) -> None:
        error = failure(wire, Answer(repeated=b" ", missing=10**6), timeout_s=0.3)
        assert isinstance(error, LLMTransientError)
        assert "within 0.3 s" in str(error)

    @pytest.mark.parametrize("status", [200, 500])
    def test_a_truncated_body_is_transient(self, wire: Wire, status: int) -> None:
        whole = Answer.of(wire.provider.reply("text"), status)
        error = failure(wire, Answer(whole.body[:-20], status, missing=20))
        assert isinstance(error, LLMTransientError)

    @pytest.mark.parametrize(
        "body",
        [b"", b'{"id": "x", "cont', b"\xff\xfe", b"[]", b"null", b'"text"', b"{}", b"[" * 10**5],
        ids=["empty", "cut JSON", "not UTF-8", "list", "null", "string", "empty object", "nested without end"],
    )
    @pytest.mark.parametrize("content_type", ["application/json", "text/html"])
    def test_a_malformed_body_fails(self, wire: Wire, body: bytes, content_type: str) -> None:
        error = failure(wire, Answer(body, 200, {"Content-Type": content_type}))
        assert isinstance(error, LLMTransientError)

    def test_truncated_json_is_transient(self, wire: Wire) -> None:
        whole = Answer.of(wire.provider.reply("text"))
        error = failure(wire, Answer(whole.body[:-20]))
        assert isinstance(error, LLMTransientError)
        assert "a malformed response" in str(error)

    def test_invalid_token_counts_are_transient(self, wire: Wire) -> None:
        body = Answer.of(wire.provider.reply("text")).body.replace(b"34", b'"many"').replace(b"30", b'"many"')
        error = failure(wire, Answer(body))
        assert isinstance(error, LLMTransientError)

    def test_a_refused_connection_is_transient(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setattr(wire.server, "url", f"http://127.0.0.1:{unused.getsockname()[1]}")
            allow_server(wire.server.url, monkeypatch)
            with pytest.raises(LLMTransientError, match="Connection refused"):
                wire.complete()


class TestPrivacy:
    def test_debug_logs_hold_neither_key_nor_texts(self, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("the generated text"))
        with caplog.at_level(logging.DEBUG):
            reply = wire.complete()
        assert_no_secrets(caplog.text)
        assert "the generated text" not in caplog.text + repr(reply)

    def test_a_request_shows_no_texts(self) -> None:
        request = LLMRequest(model="m", prompt=PROMPT, system=SYSTEM, max_output_tokens=1, timeout_s=1)
        assert_no_secrets(repr(request))


class TestClientFor:
    def test_a_missing_key_names_the_variable(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(wire.provider.variable, " ")
        with pytest.raises(MissingKey, match=f"{wire.provider.id} needs the .* {wire.provider.variable}") as caught:
            client_for(access_of(wire.provider.id))
        assert caught.value.variable == wire.provider.variable

    @pytest.mark.parametrize("key", ["two words", "schlüssel", "line\nline"])
    def test_an_invalid_key_is_refused(self, wire: Wire, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(wire.provider.variable, key)
        with pytest.raises(InvalidKey, match=wire.provider.variable) as caught:
            client_for(access_of(wire.provider.id))
        assert key not in str(caught.value)

    @pytest.mark.parametrize("url", ["ftp://user:pw@host", "host:8000", "http://", "http://[", "/v1"])
    def test_an_invalid_base_url_is_not_repeated(self, wire: Wire, url: str) -> None:
        with pytest.raises(InvalidBaseURL, match=wire.provider.id) as caught:
            client_for(access_of(wire.provider.id, url))
        assert url not in str(caught.value)

    def test_an_unknown_wire_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UnknownWire, match=r"p speaks 'cohere'.* anthropic, gemini, openai"):
            client_for(ProviderAccess("p", "cohere", None, "P_API_KEY"))

    def test_the_sdks_own_address_variables_are_ignored(
        self, wire: Wire, other_addresses: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire.server.answer = Answer.of(wire.provider.reply("ok"))
        assert wire.complete().text == "ok"

    @pytest.fixture
    def other_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_VERTEX_BASE_URL"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        monkeypatch.setenv("GOOGLE_GENAI_USE_ENTERPRISE", "true")
        monkeypatch.setenv("GOOGLE_API_KEY", "another-key")


@pytest.fixture(scope="module")
def llm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_llm(tmp_path_factory.mktemp("llm")) as url:
        yield url


@pytest.fixture
def embedded(llm_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOCAL_LLM_URL", llm_url)


class TestCompatible:
    """Servers other than the vendors' own that speak one of the wires, each with a key of its own, or none."""

    @pytest.mark.parametrize("variable", ["OPENROUTER_API_KEY", ""])
    def test_gets_its_own_key_and_the_older_limit(
        self, variable: str, server: WireServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
        monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
        server.answer = Answer.of(OpenAI().reply("ok"))
        client = client_for(ProviderAccess("openrouter", "openai", f"{server.url}/v1", variable))
        client.complete(LLMRequest(model="m", prompt=PROMPT, max_output_tokens=7, timeout_s=20))
        (seen,) = server.seen
        assert (seen.path, seen.body["max_tokens"]) == ("/v1/chat/completions", 7)
        assert "max_completion_tokens" not in seen.body
        assert seen.headers["authorization"] == f"Bearer {KEY if variable else 'not-needed'}"

    def test_its_errors_name_it(self, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
        server.answer = Answer.of(OpenAI().error(401, "No"), status=401)
        client = client_for(ProviderAccess("openrouter", "openai", f"{server.url}/v1", "OPENROUTER_API_KEY"))
        with pytest.raises(LLMPermanentError, match="The provider openrouter returned HTTP 401 for model m: No"):
            client.complete(LLMRequest(model="m", prompt=PROMPT, max_output_tokens=7, timeout_s=20))

    @pytest.mark.parametrize("wire", [Claude(), Gemini()], ids=["anthropic", "gemini"])
    def test_the_other_wires_have_several_servers_too(
        self, wire: Claude | Gemini, server: WireServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROXY_API_KEY", KEY)
        server.answer = Answer.of(wire.error(404, "No such model"), status=404)
        name = {"claude": "anthropic", "gemini": "gemini"}[wire.id]
        client = client_for(ProviderAccess("proxy", name, server.url, "PROXY_API_KEY"))
        with pytest.raises(LLMPermanentError, match="The provider proxy returned HTTP 404"):
            client.complete(LLMRequest(model="m", prompt=PROMPT, max_output_tokens=7, timeout_s=20))

    def test_openais_api_in_azure_gets_openais_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["us.openai.azure.com", "azure.com.example"])
        monkeypatch.setenv("AZURE_API_KEY", KEY)
        azure = client_for(ProviderAccess("azure", "openai", "https://us.openai.azure.com/openai/v1", "AZURE_API_KEY"))
        other = client_for(ProviderAccess("other", "openai", "https://azure.com.example/v1", "AZURE_API_KEY"))
        assert (type(azure), type(other)) == (OpenAIClient, CompatibleClient)


class TestLocal:
    def test_speaks_openais_format_with_the_older_limit_and_without_our_key(
        self, local: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        local.server.answer = Answer.of(local.provider.reply("ok"))
        assert local.complete().usage == local.provider.usage
        (seen,) = local.server.seen
        assert local.provider.asked(seen.body) == (SYSTEM, PROMPT, 777)
        assert "max_completion_tokens" not in seen.body
        assert KEY not in repr(seen.headers)

    def test_needs_an_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "LOCAL_LLM_URL", "")
        with pytest.raises(MissingKey, match="LOCAL_LLM_URL"):
            client_for(access_of("local"))

    def test_the_embedded_server_really_answers(self, embedded: None) -> None:
        reply = client_for(access_of("local")).complete(
            LLMRequest(
                model="SmolLM2-135M-Instruct",
                system="You are a helpful assistant.",
                prompt="Name three colours.",
                max_output_tokens=24,
                timeout_s=120,
            )
        )
        assert reply.text.strip()
        assert 10 < reply.usage.input_tokens < 100
        assert 0 < reply.usage.output_tokens <= 24

    def test_the_embedded_server_counts_a_truncated_answer(self, embedded: None) -> None:
        request = LLMRequest(
            model="SmolLM2-135M-Instruct", prompt="Write a long story.", max_output_tokens=5, timeout_s=120
        )
        reply = client_for(access_of("local")).complete(request)
        assert reply.truncated
        assert reply.usage.output_tokens == 5

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_what_a_real_model_counts_lies_between_our_bounds(self, embedded: None, text: str) -> None:
        request = LLMRequest(model="SmolLM2-135M-Instruct", prompt=text, max_output_tokens=1, timeout_s=120)
        usage: TokenUsage | None
        try:
            usage = client_for(access_of("local")).complete(request).usage
        except LLMPermanentError as error:
            # The one token was part of a character, or a space; it was counted all the same.
            usage = error.usage
        assert usage is not None
        counted = usage.input_tokens
        assert fewest_tokens(text) <= counted <= estimated_tokens(text)
