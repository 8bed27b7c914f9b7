"""Keys and prompts go only to the vendor or to hosts that the operator allows, whatever a database row says."""

import pytest
from django.conf import settings

from llm.checks import allowed_hosts_are_hosts
from llm.clients import base_urls
from llm.clients.base_urls import without_credentials
from llm.clients.registry import client_for
from llm.errors import (
    ForeignKeyVariable,
    HostNotAllowed,
    InsecureBaseURL,
    InvalidBaseURL,
    InvalidKeyVariable,
    LLMPermanentError,
    MissingKey,
    MissingKeyVariable,
)
from llm.keys import KEY_VARIABLES
from llm.models import LLMProvider
from llm.selectors import require_key
from llm.transfer import LLMConfiguration, configuration_add, configuration_read
from llm.types import ProviderAccess
from tests.llm.access import access_of
from tests.llm.formats import OpenAI
from tests.llm.wire import Answer, WireServer

VENDORS = {
    "claude": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "openai": "https://api.openai.com/v1",
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-secret-of-the-operator")
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", [])


@pytest.mark.parametrize(("provider_id", "url"), VENDORS.items())
def test_a_vendors_host_is_allowed_only_for_its_own_key(provider_id: str, url: str) -> None:
    client_for(access_of(provider_id, url))
    client_for(access_of(provider_id, url.upper().replace("HTTPS", "https")))
    for other in VENDORS.keys() - {provider_id}:
        with pytest.raises(HostNotAllowed, match=f"{other} points to"):
            client_for(access_of(other, url))


@pytest.mark.parametrize("provider_id", VENDORS)
@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/v1",
        "https://api.openai.com.elsewhere.example/v1",
        "https://elsewhere.example/api.openai.com",
        "https://api.openai.com:8443/v1",
        "https://127.0.0.1/v1",
        "https://[::1]/v1",
        "https://169.254.169.254/latest/meta-data",
    ],
)
def test_any_other_host_is_refused(provider_id: str, url: str) -> None:
    with pytest.raises(HostNotAllowed) as refusal:
        client_for(access_of(provider_id, url))
    assert "LLM_ALLOWED_HOSTS" in refusal.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com/v1",
        "ftp://api.openai.com",
        "https://",
        "https:///v1",
        "https://user@api.openai.com/v1",
        "https://user:sesame@api.openai.com/v1",
        "https://api.openai.com@elsewhere.example/v1",
        "https://api.openai.com\\@elsewhere.example/v1",
        "https://elsewhere.example\\.api.openai.com/v1",
        "https://api.openai.com/v1?key=sesame",
        "https://api.openai.com/v1#sesame",
        "https://api.openai.com:port/v1",
        "https://api.openai.com\n.elsewhere.example/v1",
        "https://api.openai.com /v1",
        "https://ａpi.openai.com/v1",
        "https://[::1/v1",
    ],
)
def test_an_invalid_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidBaseURL) as refusal:
        client_for(access_of("openai", url))
    assert "sesame" not in str(refusal.value)


@pytest.mark.parametrize("provider_id", VENDORS)
@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ([], "http://api.openai.com/v1"),
        (["proxy.example"], "http://proxy.example/v1"),
        (["proxy.example:80"], "http://proxy.example/v1"),
        (["10.0.0.5:8080"], "http://10.0.0.5:8080/v1"),
        # A loopback address without its port would open every service of the machine.
        (["127.0.0.1", "localhost"], "http://127.0.0.1:8080/v1"),
        (["127.0.0.1:8081"], "http://127.0.0.1:8080/v1"),
    ],
)
def test_a_key_is_never_sent_unencrypted(
    provider_id: str, listed: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", listed)
    with pytest.raises(InsecureBaseURL, match=provider_id):
        client_for(access_of(provider_id, url))


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        (["proxy.example"], "https://proxy.example/v1"),
        ([" Proxy.Example "], "https://PROXY.example"),
        (["proxy.example"], "https://proxy.example:443/v1"),
        (["other.example", "proxy.example:8443"], "https://proxy.example:8443/v1"),
        (["127.0.0.1:8080"], "http://127.0.0.1:8080/v1"),
        (["[::1]:8080"], "http://[::1]:8080/v1"),
        (["localhost:8080"], "http://localhost:8080"),
    ],
)
def test_what_the_operator_lists_is_allowed(listed: list[str], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", listed)
    for provider_id in (*VENDORS, "local"):
        client_for(access_of(provider_id, url))


def test_the_local_servers_address_is_allowed_only_for_the_local_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOCAL_LLM_URL", "http://llm:8080/v1")
    client_for(access_of("local", "http://llm:8080/v1"))
    with pytest.raises(InsecureBaseURL):
        client_for(access_of("local", "http://127.0.0.1:8080/v1"))
    with pytest.raises(InsecureBaseURL):
        client_for(access_of("openai", "http://llm:8080/v1"))


def test_a_row_that_was_changed_by_sql_is_refused_before_anything_is_sent(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, undone: None
) -> None:
    server.answer = Answer.of(OpenAI().error(400, "INTERNAL-SECRET-BODY"), status=400)
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", [])
    LLMProvider.objects.filter(pk="openai").update(api_base_url=f"{server.url}/v1")
    with pytest.raises(LLMPermanentError) as refusal:
        require_key("openai")
    assert "INTERNAL-SECRET-BODY" not in str(refusal.value)
    assert server.seen == []


def test_the_key_is_not_asked_for_before_the_host_is_known_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(HostNotAllowed):
        client_for(access_of("openai", "https://elsewhere.example"))
    with pytest.raises(MissingKey):
        client_for(access_of("openai"))


class TestKeyVariables:
    @pytest.mark.parametrize(
        "variable",
        [
            "SECRET_KEY",
            "DATABASE_URL",
            "AWS_SECRET_ACCESS_KEY",
            "openai_api_key",
            "_API_KEY",
            "X_API_KEY\n",
            "sk-sesame",
        ],
    )
    def test_no_other_secret_of_the_environment_can_be_sent(
        self, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["proxy.example"])
        monkeypatch.setenv(variable, "sesame")
        with pytest.raises(InvalidKeyVariable) as refusal:
            client_for(ProviderAccess("p", "openai", "https://proxy.example/v1", variable))
        assert "sesame" not in str(refusal.value)

    @pytest.mark.parametrize(("wire", "variable"), KEY_VARIABLES.items())
    def test_a_vendors_host_gets_only_keys_of_that_vendor(
        self, wire: str, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        second = variable.replace("_API_KEY", "_BLOG_API_KEY")
        for name in (second, "OPENROUTER_API_KEY"):
            monkeypatch.setenv(name, "sk-secret-of-the-operator")
        for url in (None, base_urls.VENDORS[wire]):
            client_for(ProviderAccess("second", wire, url, second))
            for foreign in {"OPENROUTER_API_KEY", *KEY_VARIABLES.values()} - {variable}:
                with pytest.raises(ForeignKeyVariable, match="its key variable is not named for that vendor"):
                    client_for(ProviderAccess("second", wire, url, foreign))
            with pytest.raises(MissingKeyVariable):
                client_for(ProviderAccess("second", wire, url, ""))

    def test_the_address_of_the_local_server_gets_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "LOCAL_LLM_URL", "http://llm:8080/v1")
        with pytest.raises(InsecureBaseURL):
            client_for(ProviderAccess("local", "openai", "http://llm:8080/v1", "OPENAI_API_KEY"))
        with pytest.raises(ForeignKeyVariable):
            client_for(ProviderAccess("local", "openai", None, "OPENROUTER_API_KEY"))

    def test_a_host_that_the_operator_lists_gets_any_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["api.openai.com", "proxy.example"])
        for url in ("https://api.openai.com/v1", "https://proxy.example/v1"):
            client_for(ProviderAccess("p", "openai", url, "GEMINI_API_KEY"))


class TestImportedConfiguration:
    @staticmethod
    def configuration(**values: str) -> LLMConfiguration:
        row = {"display_name": "From a bundle", "is_active": True, **values}
        return LLMConfiguration.model_validate({"providers": [row], "models": [], "steps": []})

    def test_its_base_url_is_refused_if_not_allowed(self, undone: None) -> None:
        LLMProvider.objects.filter(pk="gemini").update(id="gone")
        with pytest.raises(HostNotAllowed, match=r"elsewhere\.example"):
            configuration_add(self.configuration(id="gemini", api_base_url="https://elsewhere.example"))

    def test_it_does_not_change_an_existing_provider(self, undone: None) -> None:
        assert configuration_add(self.configuration(id="openai", api_base_url="https://elsewhere.example")) == []
        assert LLMProvider.objects.get(pk="openai").api_base_url is None

    def test_one_of_an_earlier_release_gets_its_wire_and_key_variable(self, undone: None) -> None:
        LLMProvider.objects.filter(pk="gemini").update(id="gone")
        assert configuration_add(self.configuration(id="gemini", api_base_url="")) == ["gemini"]
        gemini = LLMProvider.objects.get(pk="gemini")
        assert (gemini.wire, gemini.key_variable) == ("gemini", "GEMINI_API_KEY")

    def test_a_free_provider_is_added_as_it_was(self, undone: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["vllm.example"])
        values = {
            "id": "vllm",
            "api_base_url": "https://vllm.example/v1",
            "wire": "openai",
            "key_variable": "V_API_KEY",
        }
        assert configuration_add(self.configuration(**values)) == ["vllm"]
        (row,) = (row for row in configuration_read().providers if row.id == "vllm")
        assert row.model_dump(include=set(values)) == values

    def test_its_key_variable_is_refused_if_it_is_not_that_of_a_key(self, undone: None) -> None:
        with pytest.raises(InvalidKeyVariable):
            configuration_add(self.configuration(id="x", api_base_url="", wire="openai", key_variable="SECRET_KEY"))

    def test_a_provider_without_a_client_is_skipped(self, undone: None) -> None:
        assert configuration_add(self.configuration(id="mistral", api_base_url="https://api.mistral.ai/v1")) == []
        assert not LLMProvider.objects.filter(pk="mistral").exists()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (None, None),
        ("", None),
        ("https://host/v1", "https://host/v1"),
        ("https://user:sesame@host/v1", "****"),
        ("https://host/v1?key=sesame", "****"),
    ],
)
def test_an_audit_entry_holds_no_credentials_of_a_url(url: str | None, kept: str | None) -> None:
    assert without_credentials(url) == kept


@pytest.mark.parametrize("entry", ["https://proxy.example", "proxy.example/v1", "proxy.example:", ""])
def test_an_invalid_entry_fails_the_check(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["proxy.example", entry])
    (message,) = allowed_hosts_are_hosts()
    assert (message.id, repr(entry) in message.msg) == ("llm.E001", True)
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", ["proxy.example", "127.0.0.1:8080"])
    assert allowed_hosts_are_hosts() == []
