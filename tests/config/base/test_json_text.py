"""JSON from elsewhere is read; JSON that is nested too deeply is refused like text that is not JSON."""

from __future__ import annotations

import pytest

from audit.log.file_format import parse_line
from audit.verification.anchors import Document
from config.base.json_text import parse_json
from runs.output import decode

pytestmark = pytest.mark.unit

DEEP = "[" * 100_000


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
