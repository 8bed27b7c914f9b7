"""Make a call with an SDK: the SDK builds and sends the request, and this module reads the reply, whichever SDK it is.

The SDKs differ in which parts of a reply they accept, repair or discard, and none limits its size. So their HTTP client
(`llm.clients.http`) passes the body to `receive`, and the SDKs see an empty one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx2

from llm.clients.abort import Abort
from llm.clients.body import BodyReader, Limits, TooLarge
from llm.clients.error_bodies import json_of, request_id_of
from llm.clients.failures import (
    Call,
    error_in_reply,
    incomplete,
    malformed,
    network_failure,
    status_failure,
    too_large,
)
from llm.clients.replies import Assembly, finished, named
from llm.clients.watch import Watch
from llm.errors import CallAborted, LLMError
from llm.types import LLMReply

MAX_ERROR_BYTES = 256 * 1024


@dataclass
class Response:
    """The outcome of one request. `cut` is the error that ended the body early."""

    assembly: Assembly
    limits: Limits
    # None: no headers arrived.
    status: int | None = None
    reason: str = ""
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    error_body: bytes = b""
    cut: Exception | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class CallWatch(Watch):
    """The watch of a call, which also carries its response to `exchange`."""

    def __init__(self, call: Call, response: Response) -> None:
        super().__init__(call.request.timeout_s, call.request.stall_timeout_s)
        self.response = response


def exchange(
    call: Call, assembly_type: type[Assembly], send: Callable[[], Iterable[object]], abort: Abort | None
) -> LLMReply:
    """Make the call that `send` makes with an SDK, and return the reply.

    Raises `LLMError`; anything else is our bug.
    """
    limits = Limits.for_tokens(call.request.max_output_tokens)
    watch = CallWatch(call, Response(assembly_type(limits), limits))
    with (abort or Abort()).interrupting(watch.interrupt), watch.active():
        failure = _send(send)
    response = watch.response
    if response.status is not None:
        return judged(call, response, interrupted=watch.interrupted, stalled=watch.stalled)
    error = _unanswered(call, watch, failure)
    if error is None and failure is not None:
        raise failure
    raise error or malformed(call)


def _send(send: Callable[[], Iterable[object]]) -> Exception | None:
    """Run the SDK's call; return what it raised, or None. It may raise anything, since it sees an empty body."""
    try:
        for _nothing in send():
            pass
    except Exception as exc:
        return exc
    return None


def judged(call: Call, response: Response, *, interrupted: bool = False, stalled: bool = False) -> LLMReply:
    """Return the reply that the response contains, or raise the `LLMError` for what is wrong with it."""
    reply, cut = response.assembly, response.cut
    request_id = request_id_of(response.headers) or named(reply.id)
    if not response.is_success:
        body = json_of(response.error_body)
        raise status_failure(response.status or 0, response.reason, response.headers, body, call)
    if isinstance(cut, TooLarge):
        raise too_large(call, request_id=request_id)
    if reply.error is not None:
        raise _reported(call, reply, request_id)
    # After the mark of the end nothing is missing, so a reply without counts is judged as one whose body ended.
    is_whole = reply.has_ended and not interrupted
    if cut is not None and not (is_whole or (reply.is_complete and reply.stated_usage())):
        raise _cut(call, cut, interrupted=interrupted, stalled=stalled, request_id=request_id)
    if reply.began and not reply.is_complete and not reply.is_malformed:
        raise incomplete(call, request_id=request_id)
    return finished(call, reply, request_id)


def _unanswered(call: Call, watch: Watch, failure: Exception | None) -> LLMError | None:
    """Return the error of a call for which not even headers arrived; None if the cause is unknown."""
    if watch.interrupted:
        return CallAborted(call.provider_id, call.request.model, may_be_billed=watch.sent)
    return network_failure(failure, call, sent=watch.sent, stalled=False) if failure else None


def _cut(call: Call, cut: Exception, *, interrupted: bool, stalled: bool, request_id: str) -> Exception:
    if interrupted:
        return CallAborted(call.provider_id, call.request.model, may_be_billed=True, request_id=request_id)
    return network_failure(cut, call, sent=True, stalled=stalled, request_id=request_id) or cut


def _reported(call: Call, reply: Assembly, request_id: str) -> LLMError:
    """Return our error for an error that the provider sent instead of a reply or in the middle of one."""
    error = reply.error or {}
    return error_in_reply(
        error,
        call,
        streamed=reply.streamed,
        usage=reply.stated_usage() if reply.is_complete else None,
        may_be_billed=reply.began,
        request_id=request_id or request_id_of({}, error),
    )


def receive(received: Response, source: Iterable[bytes], watch: Watch) -> None:
    """Read a body into the response. Raises `TooLarge`, or what `source` raises if the connection fails."""
    if not received.is_success:
        watch.reply_ended()
        for chunk in source:
            received.error_body += chunk[: MAX_ERROR_BYTES - len(received.error_body)]
            if len(received.error_body) >= MAX_ERROR_BYTES:
                return
        return
    assembly = received.assembly
    reader = BodyReader(received.limits)
    for chunk in source:
        for part in reader.feed(chunk):
            assembly.add(part)
        if assembly.has_ended:
            watch.reply_ended()
        elif assembly.has_tokens:
            watch.tokens_began()
    for part in reader.end():
        assembly.add(part)
