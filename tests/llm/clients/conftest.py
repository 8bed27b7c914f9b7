"""Plain and encrypted servers for the clients."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm.clients import http
from tests.llm.clients.certificates import certificate
from tests.llm.conftest import KEY, Wire
from tests.llm.formats import PAID, Provider
from tests.llm.wire import WireServer, allow_server


@pytest.fixture
def plain_server(server: WireServer) -> WireServer:
    return server


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    """A server whose certificate our clients trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    monkeypatch.setattr(http, "_ssl_context", lambda: trusting)
    with WireServer(context).running() as server:
        allow_server(server.url, monkeypatch)
        yield server


@pytest.fixture(params=PAID, ids=lambda provider: provider.id)
def secure(request: pytest.FixtureRequest, tls_server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Each of the paid providers in turn, at an https address."""
    provider: Provider = request.param
    monkeypatch.setenv(provider.variable, KEY)
    return Wire(provider, tls_server)
