"""A call is aborted from another thread, at any stage, on plain and on encrypted connections.

The aborted calls would otherwise last for minutes, so a test that ends shows that the abort worked.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeAlias
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings

from config.stack.process import wait_until
from llm.clients.abort import Abort
from llm.clients.registry import client_for
from llm.errors import CallAborted
from llm.types import LLMReply, LLMRequest
from tests.llm.access import access_of
from tests.llm.conftest import KEY, Wire
from tests.llm.formats import PAID, Provider
from tests.llm.wire import Answer, WireServer

# The first call imports an SDK, which takes long on a busy machine.
PATIENCE_S = 60.0
FOREVER_S = 300.0

Begin: TypeAlias = Callable[[str], "tuple[Future[LLMReply], Abort]"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture(params=["plain_server", "tls_server"])
def any_server(request: pytest.FixtureRequest) -> WireServer:
    server: WireServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(params=PAID, ids=lambda provider: provider.id)
def wire(request: pytest.FixtureRequest, any_server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Wire:
    provider: Provider = request.param
    monkeypatch.setenv(provider.variable, KEY)
    return Wire(provider, any_server)


def begun(pool: ThreadPoolExecutor, wire: Wire, abort: Abort) -> "Future[LLMReply]":
    return pool.submit(wire.complete, timeout_s=FOREVER_S, stall_timeout_s=FOREVER_S, abort=abort)


def aborted(call: "Future[LLMReply]") -> CallAborted:
    with pytest.raises(CallAborted) as caught:
        call.result(PATIENCE_S)
    assert not caught.value.permanent
    assert caught.value.code == "llm_call_aborted"
    return caught.value


def test_while_the_provider_is_silent(wire: Wire, pool: ThreadPoolExecutor) -> None:
    wire.server.answer, abort = Answer(silent=True), Abort()
    call = begun(pool, wire, abort)
    assert wait_until(lambda: bool(wire.server.seen), PATIENCE_S)
    abort.abort()
    assert aborted(call).may_be_billed


@pytest.mark.parametrize("slow", [False, True], ids=["hanging", "slow"])
def test_in_the_middle_of_a_stream(wire: Wire, pool: ThreadPoolExecutor, slow: bool) -> None:
    parts = tuple(wire.provider.events(wire.provider.reply("some text that is long enough"))[:-3])
    headers = {"x-request-id": "req_7"}
    answer = Answer(parts=parts, hangs=not slow, repeated=b": slow\n\n" if slow else b"", headers=headers)
    wire.server.answer, abort = answer, Abort()
    call = begun(pool, wire, abort)
    assert wire.server.parts_sent.wait(PATIENCE_S)
    abort.abort()
    error = aborted(call)
    assert error.may_be_billed
    assert wire.provider.id in str(error)
    # It may not have read the headers yet.
    assert error.request_id in ("req_7", "")


def test_on_a_kept_connection(secure: Wire, pool: ThreadPoolExecutor) -> None:
    wire = secure
    wire.server.answer = Answer.of(wire.provider.reply("ok"))
    assert wire.complete().text == "ok"
    wire.server.answer, abort = Answer(silent=True), Abort()
    call = begun(pool, wire, abort)
    assert wait_until(lambda: len(wire.server.seen) == 2, PATIENCE_S)
    abort.abort()
    assert aborted(call).may_be_billed
    assert wire.server.connections == 1


def test_before_the_call_nothing_is_sent(wire: Wire) -> None:
    abort = Abort()
    abort.abort()
    with pytest.raises(CallAborted) as caught:
        wire.complete(abort=abort)
    assert not caught.value.may_be_billed
    assert wire.server.seen == []


def test_a_reply_that_arrived_is_returned_and_the_next_call_is_untouched(wire: Wire) -> None:
    wire.server.answer, abort = Answer.of(wire.provider.reply("ok")), Abort()
    assert wire.complete(abort=abort).text == "ok"
    abort.abort()
    assert wire.complete().text == "ok"


def test_one_abort_ends_all_its_calls_and_no_other(wire: Wire, pool: ThreadPoolExecutor) -> None:
    wire.server.answer, abort, other = Answer(silent=True), Abort(), Abort()
    calls = [begun(pool, wire, abort) for _ in range(8)]
    kept = begun(pool, wire, other)
    assert wait_until(lambda: len(wire.server.seen) == 9, PATIENCE_S)
    abort.abort()
    for call in calls:
        aborted(call)
    assert not kept.done()
    other.abort()
    aborted(kept)


class TestConnecting:
    """Aborts while connecting: nothing was sent, so nothing can be billed."""

    @pytest.fixture
    def begin(self, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Begin:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

        def begin(url: str) -> "tuple[Future[LLMReply], Abort]":
            monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", [urlsplit(url).netloc])
            request = LLMRequest(model="model-1", prompt="p", max_output_tokens=9, timeout_s=FOREVER_S)
            abort = Abort()
            return pool.submit(client_for(access_of("openai", url)).complete, request, abort), abort

        return begin

    def test_to_a_host_that_does_not_accept(self, begin: Begin) -> None:
        with socket.socket() as full, ExitStack() as before:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # more than its queue holds
                client = before.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            port = full.getsockname()[1]
            refused = connecting_to(port)
            call, abort = begin(f"http://127.0.0.1:{port}")
            assert wait_until(lambda: connecting_to(port) > refused, PATIENCE_S)
            abort.abort()
            assert not aborted(call).may_be_billed

    def test_to_a_host_that_begins_no_tls(self, begin: Begin) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            call, abort = begin(f"https://127.0.0.1:{silent.getsockname()[1]}")
            connection, _address = silent.accept()
            with connection:
                assert connection.recv(1), "the client's part of the handshake"
                abort.abort()
                assert not aborted(call).may_be_billed

    def test_while_the_name_is_resolved(self, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, over = threading.Event(), threading.Event()

        def resolver(*args: object, **options: object) -> list[object]:
            asked.set()
            over.wait(FOREVER_S)
            return []

        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        try:
            call, abort = begin("https://example.test")
            assert asked.wait(PATIENCE_S)
            abort.abort()
            assert not aborted(call).may_be_billed
        finally:
            over.set()


def connecting_to(port: int) -> int:
    """Return how many connections of this process to the port have not been accepted yet."""
    connections = psutil.Process().net_connections("tcp")
    return sum(each.status == psutil.CONN_SYN_SENT and each.raddr.port == port for each in connections)
