"""The server that stands in for a model in the benchmarks."""

from pathlib import Path

from benchmarks.engine.instant_llm import SENTENCE, instant_llm
from llm.clients.compatible import CompatibleClient
from llm.types import LLMRequest


def test_it_answers_the_products_client_and_notes_when(tmp_path: Path) -> None:
    request = LLMRequest(model="instant", prompt="Kaffee 珈琲 " * 2000, max_output_tokens=100, timeout_s=10)

    with instant_llm(tmp_path / "log") as server:
        replies = [CompatibleClient("local", server.url, "not-needed").complete(request) for _ in range(3)]
        times = server.times()
        server.forget()
        after = server.times()

    assert {reply.text for reply in replies} == {SENTENCE * 20}
    assert replies[0].usage.output_tokens == 350
    assert len(times) == 3 and times == sorted(times)
    assert after == []


def test_it_streams_its_answer_over_the_given_time_and_notes_whose_it_was(tmp_path: Path) -> None:
    request = LLMRequest(model="instant", prompt="About run-17.", max_output_tokens=1000, timeout_s=10)

    with instant_llm(tmp_path / "log", 0.3) as server:
        reply = CompatibleClient("local", server.url, "not-needed").complete(request)
        [call] = server.calls()

    assert reply.text == SENTENCE * 20
    assert (reply.usage.output_tokens, reply.truncated) == (350, False)
    assert call.run == 17
    assert call.ended is not None
    assert call.ended - call.began >= 0.3
