"""A provider's reply, from its bytes to its run's cost: it is parsed, counted by unit, priced in SQL, and shown."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from django.test import Client

from llm.errors import LLMError
from llm.models import LLMModel
from llm.prices.price_list import installed_list, listed
from llm.types import LLMReply, TokenUsage
from runs.models import Call, CallStatus, Run, RunCost, RunStatus, Step, StepCost, StepStatus
from runs.output import summary_of
from runs.presentation.tables import print_run
from runs.selectors import run_document
from runs.steps.call import CallEnd, call_settle
from runs.steps.finish import storable
from runs.types import Claim
from tenants.models import Tenant
from tenants.routing.context import tenant_context
from tests.llm.clients.made_replies import Made, made, read_reply
from tests.llm.clients.mutated_replies import damaged, mutate, read_or_error
from tests.llm.clients.test_replies import CASES
from tests.support.staff import make_user

SEED = 14
STEPS, REPLIES = 100, 200
SHOWN = 100
UNITS = ("cached_read", "cache_write_5m", "cache_write_1h")
# The cases with counts, and their cost at the list's prices of 26 November 2026, by hand.
# OpenAI: 136 new, 4,864 cached, 100 out. Claude: 50 new, 90,000 read, 600 and 400 written, 100 out. Gemini: 904 new,
# 4,096 cached, 125 out.
PRICED = {
    "openai-cached": ("openai", "gpt-6.1-sol", "0.0017584"),
    "claude-cached": ("claude", "claude-opus-5-5", "0.0264"),
    "gemini-cached": ("gemini", "gemini-2.5-flash-lite", "0.00018136"),
    # 100 in, 8 out; 1 and 1; 1 and 9; 5 and none, counted although there is no text; 10 and 3, twice.
    "openai-length": ("openai", "gpt-6.1-sol", "0.00028"),
    "openai-nul": ("openai", "gpt-6.1-sol", "0.000012"),
    "openai-think": ("openai", "gpt-6.1-sol", "0.000092"),
    "openai-choices-null": ("openai", "gpt-6.1-sol", "0.00001"),
    "claude-new-block": ("claude", "claude-opus-5-5", "0.0001"),
    "claude-max-tokens": ("claude", "claude-opus-5-5", "0.0001"),
}


class Book:
    """Steps in a tenant's database whose calls are settled as a worker settles them."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.run = Run.objects.using(alias).create(status=RunStatus.COMPLETED, config={"keyword": "x"})

    def step(self, prices: dict[str, Any]) -> Step:
        return Step.objects.using(self.alias).create(
            run=self.run, step=f"step_{uuid4().hex}", status=StepStatus.COMPLETED, prices=prices, llm_provider="p"
        )

    def settle(
        self, step: Step, usage: TokenUsage | None, *, finish_reason: str = "", error: str | None = None
    ) -> None:
        assert step.prices is not None
        document = usage.as_document(step.prices.get("long_context_over")) if usage else {}
        call = Call.objects.using(self.alias).create(
            run=self.run,
            step=step,
            version=1,
            attempt=1,
            lease_token=1,
            llm_provider="p",
            llm_model="m",
            status=CallStatus.OPEN,
            max_input_tokens=1,
            max_output_tokens=1,
        )
        end = CallEnd(document, finish_reason=finish_reason, error_code=error)
        # Of the claim, settling needs only the run.
        call_settle(alias=self.alias, claim=cast(Claim, SimpleNamespace(run_id=self.run.pk)), call_id=call.pk, end=end)


def by_hand(usages: list[TokenUsage], prices: dict[str, Any]) -> tuple[Decimal, dict[str, int]]:
    """Return the cost of all calls together in US dollars and, by unit, the tokens without a price."""
    cost, unpriced = Decimal(0), dict[str, int]()
    for usage in usages:
        threshold = prices.get("long_context_over")
        prefix = "long_" if threshold is not None and usage.input_tokens > threshold else ""
        cached = [usage.cached_read, usage.cache_write_5m, usage.cache_write_1h]
        price_of_output = prices.get(f"{prefix}output")
        parts = [
            ("input", usage.input_tokens - sum(cached), prices.get(f"{prefix}input")),
            *((unit, tokens, prices.get(prefix + unit)) for unit, tokens in zip(UNITS, cached, strict=True)),
            ("output", usage.output_tokens - usage.reasoning, price_of_output),
            ("reasoning", usage.reasoning, prices.get(f"{prefix}reasoning", price_of_output)),
        ]
        for unit, tokens, price in parts:
            if tokens and price is None:
                unpriced[prefix + unit] = unpriced.get(prefix + unit, 0) + tokens
            elif price is not None:
                cost += tokens * Decimal(price) / 1000
    return cost, unpriced


def random_prices(rng: random.Random) -> dict[str, Any]:
    """Return random prices with up to twelve decimal places, of some or all units, with or without a long context."""
    units = ["input", "output", *(unit for unit in (*UNITS, "reasoning") if rng.random() < 0.7)]
    if is_long := rng.random() < 0.5:
        units += [f"long_{unit}" for unit in units if rng.random() < 0.8]
    prices: dict[str, Any] = {unit: f"{rng.randrange(10 ** rng.randint(1, 12))}e-12" for unit in units}
    return prices | {"long_context_over": rng.choice([100, 5_000, 200_000, 999_999])} if is_long else prices


def prices_of(rng: random.Random, original: Made) -> dict[str, Any]:
    """Return the price list's prices of a model of the reply's provider, or random ones."""
    names = LLMModel.objects.filter(provider_id=original.provider.id).values_list("model_name", flat=True)
    entry = listed(installed_list(), original.provider.id, rng.choice(sorted(names)))
    return entry.prices.as_document() if entry and rng.random() < 0.4 else random_prices(rng)


def test_200_made_replies_are_parsed_counted_and_priced_exactly(tenant: Tenant) -> None:
    rng = random.Random(SEED)
    expected: dict[int, tuple[Decimal, dict[str, int]]] = {}
    with tenant_context(tenant) as alias:
        book = Book(alias)
        for _ in range(STEPS):
            replies = [made(rng) for _ in range(REPLIES // STEPS)]
            prices = prices_of(rng, replies[0])
            step = book.step(prices)
            for original in replies:
                book.settle(step, read_reply(original.provider.id, original.body).usage)
            expected[step.pk] = by_hand([original.usage for original in replies], prices)
        found = {row.step_id: row for row in StepCost.objects.using(alias).filter(run=book.run)}
        total = RunCost.objects.using(alias).get(run=book.run)
    assert {pk: (row.llm_cost, row.unpriced_tokens or {}) for pk, row in found.items()} == expected
    assert total.total_llm_cost == sum(cost for cost, _ in expected.values())
    assert total.unpriced_steps == sum(bool(unpriced) for _, unpriced in expected.values()) > 0
    assert total.tokens_by_unit.keys() == {*UNITS, "reasoning", "long_input", "long_output"}


def usage_of(provider: str, name: str) -> TokenUsage | None:
    try:
        return read_reply(provider, [(CASES / f"{name}.json").read_bytes()]).usage
    except LLMError as error:
        return error.usage


@pytest.mark.parametrize("name", PRICED)
def test_a_case_has_the_cost_of_its_units(tenant: Tenant, name: str) -> None:
    provider, model, cost = PRICED[name]
    entry = listed(installed_list(), provider, model)
    assert entry is not None
    with tenant_context(tenant) as alias:
        book = Book(alias)
        step = book.step(entry.prices.as_document())
        book.settle(step, usage_of(provider, name))
        row = StepCost.objects.using(alias).get(pk=step.pk)
    assert (row.llm_cost, row.unpriced_tokens) == (Decimal(cost), None)


@pytest.fixture
def browser() -> Iterator[Client]:
    user = make_user(is_superuser=True)
    client = Client()
    client.force_login(user)
    yield client
    user.delete()


def test_no_mutated_reply_leaves_a_row_that_breaks_a_page(
    tenant: Tenant, browser: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    known = TokenUsage(0, 0)
    with tenant_context(tenant) as alias:
        book = Book(alias)
        for _ in range(SHOWN):
            outcome = mutated(rng)
            step = book.step(random_prices(rng))
            if isinstance(outcome, LLMError):
                error = outcome.code
                shown: dict[str, Any] = {"error_message": storable(str(outcome)), "status": StepStatus.FAILED}
                book.settle(step, outcome.usage, error=error)
            else:
                shown = {"summary": summary_of(outcome.text), "is_truncated": outcome.truncated}
                book.settle(step, outcome.usage, finish_reason=outcome.finish_reason)
            known += outcome.usage or TokenUsage(0, 0)
            Step.objects.using(alias).filter(pk=step.pk).update(**shown)
        last = Step.objects.using(alias).filter(run=book.run).latest("id")
    document = run_document(tenant_id=tenant.pk, run_id=book.run.pk)
    assert document["cost"]["total_input_tokens"] == known.input_tokens > 0
    assert document["cost"]["total_output_tokens"] == known.output_tokens > 0
    print_run(document)
    assert "at least USD" in capsys.readouterr().out
    site = f"/t/{tenant.pk}/admin/runs"
    pages = (f"run/{book.run.pk}/change/", f"step/{last.pk}/change/", f"runcost/{book.run.pk}/change/")
    for page in (*pages, "run/", "step/", "runcost/"):
        assert browser.get(f"{site}/{page}").status_code == 200, page


def mutated(rng: random.Random) -> LLMReply | LLMError:
    original = made(rng)
    document = copy.deepcopy(original.document)
    for _ in range(rng.randint(1, 4)):
        mutate(rng, document)
    return read_or_error(original, damaged(rng, original, document))
