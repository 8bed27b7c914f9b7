"""The HTTP client under every SDK: no redirects, no retries, and an end to every answer."""

import logging
import ssl
from collections.abc import Iterator
from functools import cache
from time import monotonic

import httpx2

CONNECT_TIMEOUT_S = 10.0


def http_client(timeout_s: float) -> httpx2.Client:
    """Return a client for one call, to be closed by the caller.

    `timeout_s` bounds the wait for the headers, which providers send when the text is done, and for each part of the
    body; and because a server that trickles would pass that for ever, the body must be complete `timeout_s` after its
    headers.
    """
    timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))

    def limit_request(request: httpx2.Request) -> None:
        # The SDKs bring timeouts of their own; this one counts.
        request.extensions["timeout"] = timeout.as_dict()

    def limit_response(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _BoundedStream(response.stream, monotonic() + timeout_s, response.request)

    return httpx2.Client(
        timeout=timeout,
        follow_redirects=False,
        verify=_ssl_context(),
        event_hooks={"request": [limit_request], "response": [limit_response]},
    )


def keep_texts_out_of_logs(sdk: str) -> None:
    """Hold an imported SDK's logger at INFO: at DEBUG, which its own variables can set too, it logs whole prompts."""
    logger = logging.getLogger(sdk)
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


class _BoundedStream(httpx2.SyncByteStream):
    """A response body that fails once its time is over."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, request: httpx2.Request) -> None:
        self._stream = stream
        self._deadline = deadline
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if monotonic() > self._deadline:
                raise httpx2.ReadTimeout("The body took too long.", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()


@cache
def _ssl_context() -> ssl.SSLContext:
    """Shared by the process's calls: reading the certificates takes longer than connecting."""
    return httpx2.create_ssl_context()
