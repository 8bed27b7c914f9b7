"""Many calls at a time through one client, and the fake provider's faults as our clients see them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from config.stack.process import wait_until
from llm.clients.abort import Abort
from llm.clients.registry import client_for
from llm.errors import CallAborted, LLMError, LLMTransientError
from llm.types import LLMReply, LLMRequest, TokenUsage
from tests.llm.access import access_of
from tests.llm.conftest import KEY
from tests.llm.formats import PAID, Provider
from tests.llm.wire import allow_server
from tests.runs.fake_llm import INPUT_TOKENS, OUTPUT_TOKENS, Answer, FakeLLM, Fault

CALLS = 200
PATIENCE_S = 60.0
USAGE = TokenUsage(INPUT_TOKENS, OUTPUT_TOKENS)


@dataclass
class Fake:
    llm: FakeLLM
    provider: Provider

    def complete(self, prompt: str, *, stall_timeout_s: float | None = None, abort: Abort | None = None) -> LLMReply:
        url = self.llm.host_url + self.provider.base_path
        request = LLMRequest(
            model="model-1", prompt=prompt, max_output_tokens=500, timeout_s=300, stall_timeout_s=stall_timeout_s
        )
        return client_for(access_of(self.provider.id, url)).complete(request, abort)


@pytest.fixture(params=PAID, ids=lambda provider: provider.id)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    provider: Provider = request.param
    llm = FakeLLM()
    monkeypatch.setenv(provider.variable, KEY)
    allow_server(llm.host_url, monkeypatch)
    yield Fake(llm, provider)
    llm.close()


def test_each_of_many_calls_gets_its_own_reply(fake: Fake) -> None:
    """All calls are in flight at the same time: none is answered before the last has arrived."""
    gate = threading.Event()
    fake.llm.choose = lambda prompt: Answer(text=f"# For {prompt}", gate=gate)
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(fake.complete, f"prompt {number}") for number in range(CALLS)]
        in_flight = wait_until(lambda: len(fake.llm.prompts) == CALLS, PATIENCE_S)
        gate.set()
        replies = [call.result(PATIENCE_S) for call in calls]
    assert in_flight
    assert [reply.text for reply in replies] == [f"# For prompt {number}" for number in range(CALLS)]
    ledger = {call.request_id: call for call in fake.llm.ledger}
    assert {reply.request_id for reply in replies} == set(ledger)
    assert all(call.usage == USAGE and call.model == "model-1" for call in ledger.values())
    assert wait_until(lambda: all(call.delivered for call in fake.llm.ledger), PATIENCE_S)


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
def test_a_plain_answer_is_counted_as_the_ledger_says(fake: Fake, streams: bool) -> None:
    fake.llm.streams = streams
    fake.llm.answers.extend([Answer(text="# One"), Answer(text="# Two", truncated=True)])
    one, two = fake.complete("first"), fake.complete("second")
    assert (one.text, one.usage, one.truncated) == ("# One", USAGE, False)
    assert (two.text, two.usage, two.truncated) == ("# Two", USAGE, True)
    assert fake.llm.prompts == ["first", "second"]


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("fault", ["cut", "malformed"])
def test_a_lost_reply_may_be_billed_and_is(fake: Fake, fault: Fault, streams: bool) -> None:
    fake.llm.streams = streams
    fake.llm.answers.append(Answer(text="# A text of some length", fault=fault))
    with pytest.raises(LLMTransientError) as caught:
        fake.complete("prompt")
    (billed,) = fake.llm.ledger
    assert billed.usage == USAGE
    assert caught.value.may_be_billed or caught.value.usage == USAGE
    assert caught.value.request_id == billed.request_id


@pytest.mark.parametrize("answer", [Answer(status=503), Answer(status=429), Answer(fault="error", text="# Some text")])
def test_an_error_is_not_billed(fake: Fake, answer: Answer) -> None:
    fake.llm.answers.append(answer)
    with pytest.raises(LLMTransientError):
        fake.complete("prompt")
    (billed,) = fake.llm.ledger
    assert billed.usage is None


def test_a_slow_answer_arrives(fake: Fake) -> None:
    fake.llm.answers.append(Answer(text="# A text in several parts", fault="slow", pause_s=0.01))
    assert fake.complete("prompt").text == "# A text in several parts"


def test_a_stalled_answer_is_given_up(fake: Fake) -> None:
    text = "# A text that is long enough to have begun when it stalls in its middle"
    fake.llm.answers.append(Answer(text=text, fault="stall"))
    with pytest.raises(LLMError) as caught:
        fake.complete("prompt", stall_timeout_s=0.2)
    assert caught.value.code == "llm_stalled"
    assert not fake.llm.ledger[0].delivered


def test_a_hanging_call_is_aborted(fake: Fake) -> None:
    fake.llm.answers.append(Answer(fault="hang"))
    abort = Abort()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(fake.complete, "prompt", abort=abort)
        assert fake.llm.asked.wait(PATIENCE_S)
        abort.abort()
        with pytest.raises(CallAborted):
            call.result(PATIENCE_S)
