"""JSON documents are shown as labels and values, and whatever they hold stays text."""

from __future__ import annotations

import json

import pytest
from django.utils import translation

from config.site.documents import LEVELS_MAX, OPEN_MAX, as_document
from tests.support.browser.shown_text import shown_text

pytestmark = pytest.mark.unit


def _words(document: object) -> list[str]:
    return shown_text(str(as_document(document))).open


def test_sizes_times_and_durations_are_formatted() -> None:
    document = {
        "size_bytes": 4096,
        "unavailable_ms": 240,
        "llm_seconds": 75,
        "created_at": "2026-11-26T12:31:04+00:00",
        "adopted": False,
        "characters": 1234,
        "drift": [],
    }
    assert _words(document) == [
        *("Size", "4.0 KiB", "Tenant closed for", "240 ms", "Duration of the call", "1 min 15 s"),
        *("Created", "2026-11-26 21:31:04 JST", "Output of an earlier attempt", "no"),
        *("Characters", "1,234", "Drift", "none"),
    ]


def test_a_nested_document_and_a_list_stand_in_it() -> None:
    assert _words({"audit": {"sequence": 3}, "missing_files": ["a.md", "b.md"]}) == [
        *("Head of the audit log", "Sequence", "3"),
        *("Missing or changed files", "a.md", "b.md"),
    ]


def test_a_long_list_is_closed_at_first() -> None:
    paths = [f"{n}.md" for n in range(OPEN_MAX + 1)]
    html = str(as_document({"orphans": paths}))
    assert f"<summary>{OPEN_MAX + 1} entries</summary>" in html
    assert "0.md" not in shown_text(html).open


def test_what_others_wrote_is_shown_unchanged_and_inert() -> None:
    html = str(as_document({"<b>key</b>": "<script>alert(1)</script>", "year": 2026}, has_raw=True))
    assert "<script>" not in html
    assert "<b>" not in html
    assert "2026" in shown_text(html).open


def test_a_document_that_is_nested_deeply_is_shown_as_json() -> None:
    # json.loads would read a little more.
    nested = json.loads(f'{"[" * 900}"deep"{"]" * 900}')
    html = str(as_document({"inputs": nested}, has_raw=True))
    assert html.count("<li>") == LEVELS_MAX - 1
    assert html.count("deep") == 2


@pytest.mark.parametrize("key", ["x_bytes", "x_ms", "x_seconds", "seconds", "size_bytes", "year"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 4000])
def test_a_number_that_nothing_can_measure_is_shown_as_it_is(key: str, number: str) -> None:
    stored = json.loads(number)
    assert str(stored)[:20] in str(as_document({key: stored}, has_raw=True)).replace(",", "")


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2026-11-27T00:00:00"])
def test_a_time_that_has_no_place_in_our_zone_is_shown_as_it_is(time: str) -> None:
    assert time in _words({"published_at": time})


def test_no_document_is_shown_as_none() -> None:
    nothing: list[object] = [None, {}, []]
    assert [as_document(one) for one in nothing] == [None, None, None]


def test_labels_are_in_the_readers_language() -> None:
    with translation.override("ja"):
        assert "工程" in _words({"step": "final"})


def test_what_the_page_shows_elsewhere_is_left_to_the_raw_data() -> None:
    report = {"seconds": 2, "size_bytes": 300}
    assert "300" not in str(as_document(report, hidden=("size_bytes",)))
    raw = shown_text(str(as_document(report, has_raw=True, hidden=report)))
    assert "300" not in raw.open and "300" in str(as_document(report, has_raw=True, hidden=report))
    assert as_document(report, hidden=report) is None
    assert "0" in str(as_document(0))
