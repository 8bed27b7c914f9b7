"""The list of run costs reads only the costs of the runs on its page, and totals a long list only on request."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from django.test import Client

from runs.admin import costs
from runs.models import Run, RunStatus, Step, StepStatus
from tenants.routing.context import tenant_context
from tests.support.staff import Filled

# The list's column of costs.
COST = 5


@pytest.fixture
def page(filled: Filled) -> str:
    """Add runs, and return the URL of the list of costs: 0.0105, 0.003 (a failed run), 0.03, none (without steps)."""
    with tenant_context(filled.tenant):
        for status, tokens in ((RunStatus.FAILED, 1_000), (RunStatus.COMPLETED, 10_000)):
            run = Run.objects.create(status=status, config={"keyword": f"{tokens} tokens", "language": "en"})
            Step.objects.create(
                run=run,
                step="final",
                status=StepStatus.COMPLETED,
                token_usage={"input": tokens, "output": 0},
                cost_per_1k_input_tokens=Decimal("0.003"),
                cost_per_1k_output_tokens=Decimal("0.015"),
            )
        Run.objects.create(status=RunStatus.PENDING, config={"keyword": "no steps", "language": "en"})
    return f"{filled.site}runs/runcost/"


def shown(browser: Client, url: str) -> list[str]:
    """Return the costs in the list's rows."""
    cells = re.findall(r'class="field-shown_cost [^>]*>([^<]*)<', browser.get(url).content.decode())
    return [cell.strip() for cell in cells]


def test_runs_are_listed_with_their_costs(browser: Client, page: str) -> None:
    assert shown(browser, page) == ["-", "0.03", "0.0030", "0.0105"], "the newest first"
    assert shown(browser, f"{page}?run__status__exact=completed") == ["0.03", "0.0105"]
    assert shown(browser, f"{page}?run__status__exact=completed&run__created_at__gte=2999-01-01 00:00:00+00:00") == []
    # A filter on the costs themselves, in the URL.
    assert shown(browser, f"{page}?total_input_tokens__gt=5000") == ["0.03"]


def test_runs_are_sorted_by_their_costs(browser: Client, page: str) -> None:
    assert shown(browser, f"{page}?o={COST}") == ["0.0030", "0.0105", "0.03", "-"]
    assert shown(browser, f"{page}?o=-{COST}")[1:] == ["0.03", "0.0105", "0.0030"]
    assert shown(browser, f"{page}?o=-{COST}&run__status__exact=completed") == ["0.03", "0.0105"]


def test_the_costs_listed_are_added_up(browser: Client, page: str) -> None:
    assert totals(browser, page) == ["0.0435", "12,000", "500"]
    assert totals(browser, f"{page}?run__status__exact=completed") == ["0.0405", "11,000", "500"]
    assert totals(browser, f"{page}?total_input_tokens__gt=5000") == ["0.03", "10,000", "0"]


def test_many_costs_are_added_up_if_asked_for(browser: Client, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MAX_TOTALLED", 1)
    filtered = f"{page}?run__status__exact=completed"
    response = browser.get(filtered)
    html = response.content.decode()
    assert totals(browser, filtered) == []
    assert "2 runs are listed." in html
    link = response.context["cl"].totals_url
    assert parse_qs(urlsplit(link).query) == {"run__status__exact": ["completed"], "totals": ["all"]}
    assert totals(browser, page + link) == ["0.0405", "11,000", "500"]
    # No other link asks for them again.
    assert "totals" not in response.context["cl"].get_query_string({"p": 2})
    assert "totals" not in browser.get(page + link).context["cl"].get_query_string({"p": 2})


def test_only_the_costs_on_the_page_are_read(browser: Client, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MAX_TOTALLED", 1)
    monkeypatch.setattr(costs.RunCostAdmin, "list_per_page", 2)
    asked: list[tuple[str, Any]] = []
    execute = psycopg.Cursor.execute

    def record(cursor: Any, query: Any, *values: Any, **options: Any) -> Any:
        if "run_costs" in str(query):
            asked.append((str(query), values[0]))
        return execute(cursor, query, *values, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", record)
    assert shown(browser, f"{page}?p=2") == ["0.0030", "0.0105"]
    [(query, values)] = asked
    assert query.endswith('WHERE "run_costs"."run_id" IN (%s, %s)')
    assert len(values) == 2


def totals(browser: Client, url: str) -> list[str]:
    """Return the cost, the input tokens and the output tokens of all runs listed; [] if they are not added up."""
    html = browser.get(url).content.decode()
    return [one.strip() for one in re.findall(r'class="seo-gen-figure[^>]*>([^<]*)<', html)]
