"""The HTTP client of every SDK: no redirects, no retries, no cookies, no waiting without a limit."""

import http.cookiejar
import logging
import os
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Generic, TypeVar

import httpx2

from llm.clients.body import TooLarge
from llm.clients.exchange import CallWatch, receive
from llm.clients.network import WatchedBackend
from llm.clients.watch import current

# How many clients of each SDK are kept, one for each address and key, with its connections.
MAX_KEPT_CLIENTS = 32

# Well below the time for which servers keep an idle connection (5 s: llama.cpp, uvicorn, Node): a request on one
# that its server is just closing fails, and no one knows whether it was billed.
KEEP_ALIVE_S = 2.0

ClientT = TypeVar("ClientT")


def http_client(base_url: str) -> httpx2.Client:
    """Return a client for all calls to one address, from any thread: no redirects, retries or cookies.

    Encrypted connections are kept for a moment after a call. Plain ones are not: llama.cpp's server closes its
    connection after each stream, although it promises to keep it open. The client has no timeouts of its own, because
    `Watch` limits every wait.
    """
    most_kept = None if base_url.lower().startswith("https:") else 0
    client = httpx2.Client(
        timeout=None,
        follow_redirects=False,
        verify=_ssl_context(),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=most_kept, keepalive_expiry=KEEP_ALIVE_S),
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={"request": [_prepare], "response": [_receive]},
    )
    for used in (client._transport, *client._mounts.values()):  # the second are proxies from the environment
        if isinstance(used, httpx2.HTTPTransport):
            # Neither library passes a backend through; without it, no wait could be limited or aborted.
            used._pool._network_backend = WatchedBackend()
        if used is not None:
            # Close it no earlier: a client that is no longer kept may still be in a call.
            weakref.finalize(client, used.close)
    return client


class kept(Generic[ClientT]):  # noqa: N801  # a decorator
    """Keep what `build(base_url, key)` returned for the `MAX_KEPT_CLIENTS` most recently used pairs of arguments.

    Threads that ask at the same time get the same object: loading certificates and an SDK takes a second of CPU. A
    forked process builds its own, because it may not share connections.
    """

    def __init__(self, build: Callable[[str, str], ClientT]) -> None:
        self._build = build
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def __call__(self, base_url: str, key: str) -> ClientT:
        with self._lock:
            return self._built(base_url, key)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._built = lru_cache(maxsize=MAX_KEPT_CLIENTS)(self._build)


def keep_texts_out_of_logs(sdk: str) -> None:
    """Keep an SDK's logger at INFO or above: at DEBUG, which environment variables can also set, it logs prompts."""
    logger = logging.getLogger(sdk)
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


def _prepare(request: httpx2.Request) -> None:
    """Override the SDK's own timeouts, and ask for a body that cannot expand in memory."""
    request.extensions["timeout"] = {}
    request.headers["accept-encoding"] = "identity"


def _receive(response: httpx2.Response) -> None:
    """Read the body for `exchange`, and leave the SDK an empty one."""
    watch = current()
    if not isinstance(watch, CallWatch) or not isinstance(response.stream, httpx2.SyncByteStream):
        return
    received = watch.response
    received.status, received.reason, received.headers = response.status_code, response.reason_phrase, response.headers
    source = response.stream
    try:
        receive(received, source, watch)
    except (httpx2.RequestError, TooLarge) as exc:
        received.cut = exc
    finally:
        # A connection whose body was not read to its end is closed; the pool decides whether to keep any other.
        source.close()
    response.stream = _Nothing()
    response.headers = httpx2.Headers({"content-type": response.headers.get("content-type", "")})


class _Nothing(httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        return iter(())


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return the context, shared by all calls, because reading the certificates takes longer than connecting."""
    return httpx2.create_ssl_context()
