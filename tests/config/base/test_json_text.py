"""JSON from elsewhere is read; JSON that is nested too deeply is refused like text that is not JSON."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from audit.log.chain_check import genesis_of
from audit.log.file_format import FIELDS, entry_hash, lines_check, parse_line
from audit.verification.anchors import FORMAT, Document
from config.base.json_text import parse_json
from runs.output import decode

pytestmark = pytest.mark.unit

DEEP = "[" * 100_000
ANCHOR = {
    "tenant": "",
    "identity": None,
    "sequence": 3,
    "hash": "a" * 64,
    "guards": "b" * 64,
    "at": "2026-01-01T00:00:00.000000Z",
}


def test_a_document_is_read() -> None:
    assert parse_json('{"a": [1, null]}') == parse_json(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("text", ["", "{", "[1,]", DEEP, DEEP + "]" * 100_000])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


def test_files_that_are_nested_too_deeply_are_refused_as_others() -> None:
    for parse in (parse_line, Document.parse):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(DEEP.encode())
    assert decode(DEEP.encode()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"run": 5},
        {"anchors": [{**ANCHOR, "identity": 5}]},
        {"anchors": [{**ANCHOR, "sequence": float("inf")}]},
        {"anchors": [{**ANCHOR, "at": "2026-01-01T00:00:00"}]},
        {"anchors": 1},
        {"previous": ["name"]},
        {"previous": {"name": "\ud800", "sha256": "0"}},
        {"format": "another"},
    ],
)
def test_an_anchor_document_with_wrong_values_is_a_value_error(change: dict[str, object]) -> None:
    good = {"format": FORMAT, "run": str(UUID(int=1)), "previous": None, "anchors": [ANCHOR]}
    assert Document.parse(json.dumps(good).encode()).anchors[0].sequence == 3
    with pytest.raises(ValueError):  # noqa: PT011
        Document.parse(json.dumps({**good, **change}).encode())


@pytest.mark.parametrize("change", [{"user_id": 5}, {"details": {}}, {"entry_hash": None}, {"user_id": "\ud800"}])
def test_an_audit_log_line_with_wrong_values_is_a_bad_line(change: dict[str, object]) -> None:
    identity = UUID(int=1)
    fields = ["1", genesis_of(identity), "2026-01-01", "someone", "run.start", "run", "1", None, None]
    good = {**dict(zip(FIELDS, fields, strict=True)), "entry_hash": entry_hash(fields)}
    assert lines_check([json.dumps(good).encode()], identity)[0] is None
    assert lines_check([json.dumps({**good, **change}).encode()], identity)[0] == 1
