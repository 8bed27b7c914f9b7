"""The server that stands in for a model in the benchmarks."""

from pathlib import Path

from benchmarks.engine.instant_llm import SENTENCE, instant_llm
from llm.clients.local import LocalClient
from llm.types import LLMRequest


def test_it_answers_the_products_client_and_notes_when(tmp_path: Path) -> None:
    request = LLMRequest(model="instant", prompt="Kaffee 珈琲 " * 2000, max_output_tokens=100, timeout_s=10)

    with instant_llm(tmp_path / "log") as server:
        replies = [LocalClient(server.url).complete(request) for _ in range(3)]
        times = server.times()
        server.forget()
        after = server.times()

    assert {reply.text for reply in replies} == {SENTENCE * 20}
    assert replies[0].usage.output_tokens == 350
    assert len(times) == 3 and times == sorted(times)
    assert after == []
