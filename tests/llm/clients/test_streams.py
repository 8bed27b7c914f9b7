"""Replies that arrive in parts: what counts as the end, what as a failure, and how long each wait may take."""

import json
import tracemalloc
from dataclasses import replace

import pytest

from llm.errors import LLMError, LLMPermanentError, LLMTransientError
from tests.llm.clients.test_clients import failure
from tests.llm.conftest import Wire
from tests.llm.formats import DONE, Document, sse
from tests.llm.wire import Answer

TEXT = "# 雨傘の記事\n\nUmbrellas keep the rain off. 傘は雨を防ぐ。"


def streamed(wire: Wire, document: Document | None = None) -> tuple[bytes, ...]:
    return tuple(wire.provider.events(document or wire.provider.reply(TEXT)))


def before_the_end(wire: Wire) -> tuple[bytes, ...]:
    """Return a stream that breaks off after some text, before its end and its final token counts."""
    return streamed(wire)[: -1 if wire.provider.id == "gemini" else -3]


class TestWholeReplies:
    def test_are_asked_for_as_a_stream(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply(TEXT))
        assert wire.complete().text == TEXT
        (seen,) = wire.server.seen
        assert wire.provider.streams(seen.path, seen.body)

    @pytest.mark.parametrize("size", [1, 7, 10**6])
    def test_arrive_in_any_pieces(self, wire: Wire, size: int) -> None:
        body = b"".join(streamed(wire))
        pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
        wire.server.answer = Answer(parts=pieces)
        reply = wire.complete()
        assert (reply.text, reply.usage, reply.model) == (TEXT, wire.provider.usage, "model-1-20261101")

    @pytest.mark.parametrize("line_end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
    def test_any_line_end_is_read(self, wire: Wire, line_end: bytes) -> None:
        wire.server.answer = Answer(parts=tuple(part.replace(b"\n", line_end) for part in streamed(wire)))
        assert wire.complete().text == TEXT

    def test_comments_and_unknown_fields_and_events_are_ignored(self, wire: Wire) -> None:
        noise = b": OPENROUTER PROCESSING\n\nid: 7\nretry: 10\n\n" + sse({"type": "brand_new"}, "brand_new")
        parts = [noise + part for part in streamed(wire)]
        wire.server.answer = Answer(parts=(b"\xef\xbb\xbf", *parts))
        assert wire.complete().text == TEXT

    def test_the_last_blank_line_may_be_missing(self, wire: Wire) -> None:
        *parts, last = streamed(wire)
        wire.server.answer = Answer(parts=(*parts, last.rstrip(b"\n")))
        assert wire.complete().text == TEXT

    def test_a_wrong_content_type_does_not_matter(self, wire: Wire) -> None:
        wire.server.answer = Answer(parts=streamed(wire), headers={"Content-Type": "application/json"})
        assert wire.complete().text == TEXT

    def test_a_list_of_geminis_parts_is_read(self, gemini: Wire) -> None:
        parts = [json.loads(event.removeprefix(b"data: ")) for event in streamed(gemini)]
        gemini.server.answer = Answer(json.dumps(parts, indent=2).encode())
        assert gemini.complete().text == TEXT

    def test_are_kept_if_the_connection_breaks_after_their_end(self, wire: Wire) -> None:
        wire.server.answer = Answer(parts=streamed(wire), cut=True)
        assert wire.complete().usage == wire.provider.usage

    def test_are_kept_if_the_server_never_ends_the_body(self, wire: Wire) -> None:
        wire.server.answer = Answer(parts=streamed(wire), hangs=True)
        assert wire.complete(timeout_s=60, stall_timeout_s=0.2).text == TEXT

    def test_a_compressed_body_is_not_asked_for(self, wire: Wire) -> None:
        wire.server.answer = Answer.of(wire.provider.reply(TEXT))
        wire.complete()
        assert wire.server.seen[0].headers["accept-encoding"] == "identity"


class TestInterruptedReplies:
    @pytest.mark.parametrize("cut", [True, False], ids=["cut", "ended in order"])
    def test_are_transient_and_may_be_billed(self, wire: Wire, cut: bool) -> None:
        error = failure(wire, Answer(parts=before_the_end(wire), cut=cut))
        assert isinstance(error, LLMTransientError)
        assert error.may_be_billed
        assert error.usage is None

    def test_a_stream_that_ends_before_its_counts_is_transient(self, openai: Wire) -> None:
        """One that ends properly without counts is a permanent error instead: its server does not send any."""
        parts = streamed(openai, openai.provider.without_usage())
        assert isinstance(failure(openai, Answer(parts=parts)), LLMPermanentError)
        openai.server.seen.clear()
        # Even if it keeps the connection open after its end: a retry would be billed again.
        hanging = failure(openai, Answer(parts=parts, hangs=True), timeout_s=60, stall_timeout_s=0.2)
        assert (type(hanging), hanging.code) == (LLMPermanentError, "llm_usage_missing")
        openai.server.seen.clear()
        assert failure(openai, Answer(parts=parts[:-1])).code == "llm_reply_incomplete"

    def test_a_stream_may_lack_its_end_if_the_counts_are_there(self, wire: Wire) -> None:
        parts = streamed(wire)
        wire.server.answer = Answer(parts=parts if wire.provider.id == "gemini" else parts[:-1])
        assert wire.complete().usage == wire.provider.usage

    def test_a_malformed_event_spoils_the_text_but_not_the_count(self, wire: Wire) -> None:
        first, *rest = streamed(wire)
        error = failure(wire, Answer(parts=(first, b"data: {oops\n\n", *rest)))
        assert isinstance(error, LLMTransientError)
        assert "a malformed response" in str(error)
        assert error.usage == wire.provider.usage
        assert not error.may_be_billed

    def test_a_stall_after_the_first_token_is_transient(self, wire: Wire) -> None:
        error = failure(wire, Answer(parts=before_the_end(wire), hangs=True), timeout_s=60, stall_timeout_s=0.2)
        assert isinstance(error, LLMTransientError)
        assert error.code == "llm_stalled"
        assert "nothing for 0.2 s" in str(error)
        assert error.may_be_billed

    def test_before_the_first_token_only_the_whole_time_counts(self, wire: Wire) -> None:
        """Claude and compatible servers begin the stream long before the model has finished thinking."""
        begun = (b"\n",) if wire.provider.id == "gemini" else streamed(wire)[:1]
        error = failure(wire, Answer(parts=begun, hangs=True), timeout_s=0.7, stall_timeout_s=0.1)
        assert error.code == "llm_timeout"
        assert "within 0.7 s" in str(error)
        assert error.may_be_billed

    def test_keep_alives_prevent_a_stall_but_not_the_timeout(self, wire: Wire) -> None:
        answer = Answer(parts=before_the_end(wire), repeated=b": ping\n\n")
        error = failure(wire, answer, timeout_s=2.5, stall_timeout_s=2)
        assert error.code == "llm_timeout"

    def test_silence_may_be_billed_but_a_refused_request_is_not(self, wire: Wire) -> None:
        assert failure(wire, Answer(silent=True), timeout_s=0.3).may_be_billed
        wire.server.seen.clear()
        assert not failure(wire, Answer.of(wire.provider.error(500, "no"), 500)).may_be_billed


class TestErrorsInReplies:
    @pytest.mark.parametrize(("status", "transient"), [(429, True), (500, True), (529, True), (401, False)])
    def test_count_like_the_same_http_status(self, wire: Wire, status: int, transient: bool) -> None:
        event = wire.provider.error_event(status, "model: model-1 is tired")
        error = failure(wire, Answer(parts=(*before_the_end(wire), event)))
        assert isinstance(error, LLMTransientError if transient else LLMPermanentError)
        assert "model: model-1 is tired" in str(error)
        assert error.may_be_billed

    def test_are_not_billed_before_the_reply_begins(self, wire: Wire) -> None:
        error = failure(wire, Answer(parts=(wire.provider.error_event(529, "Overloaded"),)))
        assert isinstance(error, LLMTransientError)
        assert not error.may_be_billed

    @pytest.mark.parametrize("document", [{"error": "no such plan"}, {"error": {"message": "no such plan"}}])
    def test_one_of_unknown_kind_in_place_of_a_reply_is_permanent(self, wire: Wire, document: Document) -> None:
        error = failure(wire, Answer.of(document))
        assert isinstance(error, LLMPermanentError)
        assert "no such plan" in str(error)

    def test_one_of_unknown_kind_in_a_stream_is_transient(self, openai: Wire) -> None:
        event = sse({"error": {"message": "something broke"}})
        assert isinstance(failure(openai, Answer(parts=(*before_the_end(openai), event))), LLMTransientError)

    def test_an_empty_account_is_permanent(self, openai: Wire) -> None:
        event = sse({"error": {"message": "You exceeded your quota.", "code": "insufficient_quota", "type": "x"}})
        assert isinstance(failure(openai, Answer(parts=(event,))), LLMPermanentError)

    def test_openrouters_place_for_them_is_read(self, openai: Wire) -> None:
        choice = {"index": 0, "finish_reason": "error", "error": {"code": 502, "message": "Upstream is down"}}
        error = failure(openai, Answer(parts=(sse({"choices": [choice]}), DONE)))
        assert isinstance(error, LLMTransientError)
        assert "Upstream is down" in str(error)

    def test_geminis_wait_is_honoured(self, gemini: Wire) -> None:
        document = gemini.provider.error(429, "Quota exceeded")
        document["error"]["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
        assert failure(gemini, Answer(parts=(sse(document),))).retry_after_s == 7


class TestLimits:
    def test_a_text_far_beyond_its_token_limit_ends_the_call(self, wire: Wire) -> None:
        """The server would send forever: only the limit ends the call before its timeout."""
        event = streamed(wire, wire.provider.reply("x" * 9))[-1 if wire.provider.id == "gemini" else 1]
        if wire.provider.id == "claude":
            event = sse({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 9}})
        more = event.replace(b"xxxxxxxxx", b"x" * 60_000).replace(b"STOP", b"")
        error = failure(wire, Answer(parts=(more,), repeated=more, pause_s=0.0))
        assert isinstance(error, LLMPermanentError)
        assert error.code == "llm_reply_too_large"
        assert error.may_be_billed
        assert "777 tokens" in str(error)

    @pytest.mark.parametrize(
        ("begin", "more"),
        [
            (b'{"id": "', b"x" * 2**20),
            (b"data: {", b"x" * 2**20),
            (b":", b": comment " * 100 + b"\n"),
            (b"{", b" " * 2**20),
            (b"data: x\n", b"data: 123456789 123456789\n" * 2**16),
        ],
        ids=["document", "event", "comments", "white space", "lines of one event"],
    )
    def test_a_body_without_end_ends_the_call_with_bounded_memory(
        self, openai: Wire, begin: bytes, more: bytes
    ) -> None:
        tracemalloc.start()
        try:
            error = failure(openai, Answer(parts=(begin,), repeated=more, pause_s=0.0), timeout_s=120)
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert error.code == "llm_reply_too_large"
        assert peak < 40 * 2**20

    def test_an_error_without_end_is_cut(self, wire: Wire) -> None:
        error = failure(wire, Answer(status=500, parts=(b"<html>",), repeated=b"x" * 2**16, pause_s=0.0))
        assert isinstance(error, LLMTransientError)
        assert "HTTP 500" in str(error)

    def test_an_error_that_never_ends_is_not_waited_for(self, wire: Wire) -> None:
        parts = (json.dumps(wire.provider.error(500, "broken")).encode(),)
        error = failure(wire, Answer(status=500, parts=parts, hangs=True), timeout_s=60)
        assert "broken" in str(error)


class TestRequestIds:
    @pytest.mark.parametrize("header", ["request-id", "x-request-id"])
    def test_a_reply_and_an_error_have_the_providers(self, wire: Wire, header: str) -> None:
        wire.server.answer = replace(Answer.of(wire.provider.reply("ok")), headers={header: "req_42"})
        assert wire.complete().request_id == "req_42"
        wire.server.answer = replace(Answer.of(wire.provider.error(500, "no"), 500), headers={header: "req_43"})
        assert self.error(wire).request_id == "req_43"
        wire.server.answer = Answer(parts=before_the_end(wire), cut=True, headers={header: "req_44"})
        assert self.error(wire).request_id == "req_44"

    def test_without_a_header_the_replys_own_id_serves(self, gemini: Wire) -> None:
        gemini.server.answer = Answer.of(gemini.provider.reply("ok"))
        assert gemini.complete().request_id == "kfR8Z5bvGK6ngLUPhNWyqQg"

    def test_a_hostile_id_is_bounded_and_printable(self, openai: Wire) -> None:
        openai.server.answer = replace(
            Answer.of(openai.provider.reply("ok")), headers={"x-request-id": "é\t" + "x" * 999}
        )
        assert openai.complete().request_id == "x" * 200

    @staticmethod
    def error(wire: Wire) -> LLMError:
        with pytest.raises(LLMError) as caught:
            wire.complete()
        return caught.value


class TestConnections:
    def test_an_encrypted_one_is_kept_for_the_next_call(self, secure: Wire) -> None:
        secure.server.answer = Answer.of(secure.provider.reply("ok"))
        for _ in range(3):
            secure.complete()
        assert secure.server.connections == 1

    def test_a_broken_reply_closes_its_own(self, secure: Wire) -> None:
        for _ in range(2):
            secure.server.answer = Answer(parts=before_the_end(secure), hangs=True)
            with pytest.raises(LLMTransientError):
                secure.complete(stall_timeout_s=0.1)
        assert secure.server.connections == 2

    def test_a_plain_one_is_not_kept(self, wire: Wire) -> None:
        """If it were kept, the next call would fail: llama.cpp closes connections that it promises to keep open."""
        wire.server.answer = Answer.of(wire.provider.reply("ok"))
        wire.complete()
        wire.complete()
        assert wire.server.connections == 2

    def test_cookies_are_neither_kept_nor_sent(self, wire: Wire) -> None:
        wire.server.answer = replace(Answer.of(wire.provider.reply("ok")), headers={"Set-Cookie": "who=me; Path=/"})
        wire.complete()
        wire.complete()
        assert "cookie" not in wire.server.seen[1].headers
