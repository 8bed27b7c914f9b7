"""Lists of runs, as people paste them or save them as CSV files."""

from __future__ import annotations

import pytest

from runs.errors import InvalidRunList
from runs.series.inputs import DeclaredInput
from runs.series.rows import MAX_BYTES, MAX_ROWS, decoded, listed_rows, repeated

pytestmark = pytest.mark.unit

INPUTS = [
    DeclaredInput("audience", "string", False, None, ""),
    DeclaredInput("words", "integer", False, None, ""),
    DeclaredInput("formal", "boolean", False, None, ""),
    DeclaredInput("headings", "list", False, None, ""),
]
REQUIRED = [DeclaredInput("audience", "string", True, None, "")]


def configs(text: str, inputs: list[DeclaredInput] = INPUTS, **common: object) -> list[dict[str, object]]:
    return [row.config.document() for row in listed_rows(text, inputs=inputs, common={"language": "ja", **common})]


def problems(text: str, inputs: list[DeclaredInput] = INPUTS, **common: object) -> list[str]:
    with pytest.raises(InvalidRunList) as refused:
        configs(text, inputs, **common)
    return refused.value.problems


def test_each_line_that_is_not_blank_is_a_keyword() -> None:
    text = "\ufeffコーヒー ミル\r\n\r\n  tea, green \n\u200b\nlast"
    rows = listed_rows(text, inputs=INPUTS, common={"language": "ja", "audience": "beginners"})
    assert [(row.line, row.config.keyword) for row in rows] == [(1, "コーヒー ミル"), (3, "tea, green"), (5, "last")]
    assert {row.config.inputs["audience"] for row in rows} == {"beginners"}


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_is_read_as_spreadsheets_write_it(delimiter: str, end: str) -> None:
    cells = [
        ["keyword", "language", "audience", "words", "formal", "headings"],
        ['"tea ""green"""', "en", f'"a{delimiter} b\nc"', "1200", "はい", '"x\ny"'],
        ["", "", "", "", "", ""],
        ["coffee", "", "", "", "", ""],
    ]
    text = "\ufeff" + end.join(delimiter.join(row) for row in cells) + end
    first, second = configs(text, audience="everyone")
    assert first == {
        "keyword": 'tea "green"',
        "language": "en",
        "audience": f"a{delimiter} b\nc",
        "words": 1200,
        "formal": True,
        "headings": ["x", "y"],
    }
    assert second == {"keyword": "coffee", "language": "ja", "audience": "everyone"}


def test_a_line_ends_only_where_an_editor_ends_it() -> None:
    """Other line separators are refused, and do not shift the line numbers."""
    found = problems("one\u2028still one\ntwo\nth\x0bree")
    assert [problem.partition(":")[0] for problem in found] == ["Line 1", "Line 3"]


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    text = 'keyword,audience\n"one","two\nlines"\n\nthree,x\nfour,y\n'
    assert [row.line for row in listed_rows(text, inputs=INPUTS, common={})] == [2, 5, 6]


def test_a_whole_number_has_as_many_digits_as_in_a_configuration() -> None:
    header = "keyword,words\n"
    [row] = listed_rows(header + "tea,-999999999999999999", inputs=INPUTS, common={})
    assert row.config.inputs["words"] == -(10**18) + 1
    assert problems(header + "tea,1000000000000000000")[0].endswith("not '1000000000000000000'.")


def test_all_wrong_lines_are_named() -> None:
    header = "keyword,words,formal,headings,language\n"
    text = header + "tea,many,,,\ncoffee,,perhaps,,\n,1,,,\nmilk,,,[1,\njuice,,,,fr\ngood,1,no,,en"
    found = problems(text)
    assert [one.split(":")[0] for one in found] == ["Line 2", "Line 3", "Line 4", "Line 5", "Line 6"]
    assert found[0] == "Line 2: words must be a whole number of at most 18 digits, not 'many'."
    assert "ja or en" in found[4]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The list is empty."),
        ("keyword,audience\n", "The list is empty."),
        ("keyword,brand\ntea,x", "Line 1: there is no input 'brand'."),
        ("keyword,keyword\ntea,x", "Line 1 names the column keyword more than once."),
        ("keyword,audience\ntea,x,more", "Line 2 has 3 cells, but the first line has only 2."),
        ('keyword\n"tea', "The CSV is not valid: an opening quotation mark has no closing one."),
        ("tea\x00", "Line 1: "),
        ("tea\u202ecoffee", "Line 1: "),
        ("\n".join(["tea"] * (MAX_ROWS + 1)), "The list has 201 runs, but at most 200 can be started at once"),
        ("x" * (MAX_BYTES + 1), "The list is larger than 1024 KiB."),
    ],
    ids=range(10),
)
def test_a_list_that_cannot_be_started_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    assert problems(text)[0].startswith(sentence)


def test_a_required_input_must_come_from_the_cell_or_from_the_form() -> None:
    text = "keyword,audience\ntea,\ncoffee,x"
    assert problems(text, REQUIRED) == ["Line 2: audience is required."]
    assert len(configs(text, REQUIRED, audience="all")) == 2
    assert len(configs(text, REQUIRED, steps=["final"])) == 2, "a run of some steps may not need it"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
def test_files_are_decoded_as_excel_saves_them(encoding: str) -> None:
    assert decoded("keyword,audience\r\n珈琲①,～\r\n".encode(encoding)) == "keyword,audience\r\n珈琲①,～\r\n"


@pytest.mark.parametrize("content", [b"PK\x03\x04 a workbook", b"caf\xe9 ", b"x" * (MAX_BYTES + 1)])
def test_a_file_that_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRunList):
        decoded(content)


def test_repeated_lines_are_found() -> None:
    rows = listed_rows("tea\ncoffee\ntea\ntea", inputs=[], common={})
    assert repeated(rows) == [(3, 1), (4, 1)]
