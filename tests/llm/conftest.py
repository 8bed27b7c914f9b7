"""A server that speaks a paid provider's wire format, and our client for it."""

from collections.abc import Iterator

import pytest
from django.db import transaction

from llm.clients.abort import Abort
from llm.clients.registry import client_for
from llm.types import LLMReply, LLMRequest
from tests.llm.access import access_of
from tests.llm.formats import PAID, Claude, Gemini, Local, OpenAI, Provider
from tests.llm.wire import WireServer, allow_server

KEY = "sk-test-2f8b1c9d7e60"
PROMPT = "The customer's secret plan is to sell umbrellas.\nWrite about it."
SYSTEM = "You are the customer's own editor."


class Wire:
    """A provider's fake server together with our client for it."""

    def __init__(self, provider: Provider, server: WireServer, *, streams: bool = True) -> None:
        self.provider = provider
        self.server = server
        server.streams_for = provider if streams else None

    @property
    def base_url(self) -> str:
        return self.server.url + self.provider.base_path

    def complete(
        self,
        *,
        prompt: str = PROMPT,
        system: str = SYSTEM,
        model: str = "model-1",
        timeout_s: float = 20,
        stall_timeout_s: float | None = None,
        abort: Abort | None = None,
    ) -> LLMReply:
        request = LLMRequest(
            model=model,
            prompt=prompt,
            system=system,
            max_output_tokens=777,
            timeout_s=timeout_s,
            stall_timeout_s=stall_timeout_s,
        )
        return client_for(access_of(self.provider.id, self.base_url)).complete(request, abort)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    with WireServer().running() as server:
        allow_server(server.url, monkeypatch)
        yield server


@pytest.fixture
def streams() -> bool:
    """Whether the server streams. A test that covers both cases overrides this with a parameter."""
    return True


@pytest.fixture(params=PAID, ids=lambda provider: provider.id)
def wire(request: pytest.FixtureRequest, server: WireServer, streams: bool, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Each of the paid providers in turn, with its key set."""
    provider: Provider = request.param
    monkeypatch.setenv(provider.variable, KEY)
    return Wire(provider, server, streams=streams)


@pytest.fixture
def openai(server: WireServer, streams: bool, monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Wire(OpenAI(), server, streams=streams)


@pytest.fixture
def gemini(server: WireServer, streams: bool, monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    return Wire(Gemini(), server, streams=streams)


@pytest.fixture
def claude(server: WireServer, streams: bool, monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return Wire(Claude(), server, streams=streams)


@pytest.fixture
def local(server: WireServer) -> Wire:
    return Wire(Local(), server)


@pytest.fixture
def undone() -> Iterator[None]:
    """Roll back the test's changes to the control database, because all tests share its catalogue."""
    with transaction.atomic(using="default"):
        yield
        transaction.set_rollback(True, using="default")
