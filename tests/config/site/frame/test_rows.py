"""Rows of lists have the same HTML as the theme's, but the headers are computed once, not for each row."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from config.site.frame import rows, tags
from tests.config.site.test_pages import CONTROL_PAGES, LANGUAGES, TENANT_PAGES
from tests.support.staff import Filled

# Filters, which the links to the rows' pages keep.
FILTERED = ("runs/run/?status__exact=completed", "runs/step/?o=1.-2", "audit/auditlog/?reads=all&p=1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_rows_are_the_themes(language: str, browser: Client, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: set[str] = set()
    different: list[tuple[str, str]] = []

    def compare(cl: Any) -> dict[str, Any]:
        context = rows.row_context(cl)
        ours, theirs = [row.cells for row in context["results"]], [row.cells for row in rows._theme_rows(cl)]
        compared.update(cl.opts.model_name for _one in ours)
        different.extend(pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1])
        return context

    monkeypatch.setattr(tags, "row_context", compare)
    ids = {"run": filled.run.pk, "step": filled.step.pk, "artifact": filled.artifact.pk}
    tenant_pages = [filled.site + page.format(**ids) for page in (*TENANT_PAGES, *FILTERED)]
    for page in (*CONTROL_PAGES, *tenant_pages):
        browser.get(page, headers={"accept-language": language})
    assert different == []
    assert compared >= {"run", "step", "artifact", "runcost", "prompt", "auditlog", "tenant", "controlauditlog", "user"}


def test_headers_are_computed_once(browser: Client, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    from unfold.templatetags import unfold_list

    asked: list[Any] = []
    headers = unfold_list.result_headers

    def count(cl: Any) -> Any:
        asked.append(cl)
        return headers(cl)

    for module in (unfold_list, rows):
        monkeypatch.setattr(module, "result_headers", count)
    html = browser.get(f"{filled.site}prompts/prompt/").content.decode()
    assert html.count('class="data-row') > 1
    assert len(asked) == 1
