"""The HTTP client that every SDK uses: no redirects, no retries, and a deadline for every answer."""

import logging
import ssl
from collections.abc import Iterator
from functools import cache
from time import monotonic

import httpx2

CONNECT_TIMEOUT_S = 10.0


def http_client(timeout_s: float) -> httpx2.Client:
    """Return a client for one call; the caller closes it.

    `timeout_s` limits the wait for the headers, which providers send when the text is complete, and for each part of
    the body. A server that sends the body slowly could meet these limits for ever, so the whole body must also arrive
    within `timeout_s` of the headers.
    """
    timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))

    def limit_request(request: httpx2.Request) -> None:
        # Overrides the SDKs' own timeouts.
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
    """Keep an SDK's logger at INFO: at DEBUG, which its environment variables can also set, it logs whole prompts."""
    logger = logging.getLogger(sdk)
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


class _BoundedStream(httpx2.SyncByteStream):
    """A response body that raises a timeout after a deadline."""

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
    """Return the context, shared by all calls, because reading the certificates takes longer than connecting."""
    return httpx2.create_ssl_context()
