"""Read a list of runs that was pasted or uploaded: one keyword per line, or a CSV with a column for each input."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.base.json_text import parse_json
from config.base.text import is_blank, strip_invisible
from runs.config import MAX_DIGITS, RunConfig, config_from_document
from runs.errors import InvalidRunConfig, InvalidRunList
from runs.series.inputs import COMMON, DeclaredInput

MAX_ROWS = 200
MAX_BYTES = 1024 * 1024
# How many problems are shown: as many as a person corrects at once.
SHOWN_PROBLEMS = 10
# Japanese Excel saves CSV in the last one; its "CSV UTF-8" begins with a byte order mark.
ENCODINGS = ("utf-8-sig", "cp932")
# Excel's "Unicode Text" begins with a UTF-16 byte order mark; a workbook is a ZIP file.
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
ZIP = b"PK\x03\x04"
# Commas; tabs, as in text pasted from a spreadsheet; and what Excel writes if the comma is the decimal sign.
DELIMITERS = ",\t;"
YES, NO = frozenset({"true", "yes", "1", "はい"}), frozenset({"false", "no", "0", "いいえ"})
WANTED = {
    "integer": gettext_lazy("Line %(line)d: %(name)s must be a whole number of at most 18 digits, not %(value)s."),
    "boolean": gettext_lazy("Line %(line)d: %(name)s must be yes or no, not %(value)s."),
    "list": gettext_lazy("Line %(line)d: %(name)s must be items separated by ; or a JSON list, not %(value)s."),
}


@dataclass(frozen=True)
class ListedRow:
    """One run of the list."""

    # The number of its first line, from 1.
    line: int
    config: RunConfig


def decoded(content: bytes) -> str:
    """Return the text of an uploaded file. Raises `InvalidRunList` if the file is too large or is not text."""
    if len(content) > MAX_BYTES:
        raise _too_large()
    encodings = ("utf-16",) if content.startswith(UTF_16) else () if content.startswith(ZIP) else ENCODINGS
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidRunList(
        [_("The file is neither UTF-8 nor Shift_JIS text.")],
        hint=_("Save it as CSV in UTF-8, not as an Excel workbook."),
    )


def listed_rows(text: str, *, inputs: Iterable[DeclaredInput], common: Mapping[str, object]) -> list[ListedRow]:
    """Return the runs that the text lists.

    The text is a CSV if its first line has a column "keyword"; otherwise each line is a keyword. `common` is what all
    configurations have in common; a cell of a CSV that is not empty replaces a value of `common`. Raises
    `InvalidRunList` if the text is too large or not such a list, if it lists no run or more than `MAX_ROWS`, or if
    lines have wrong values, with one problem for each such line.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise _too_large()
    declared = {one.name: one for one in inputs}
    records = _records(text.removeprefix("\ufeff"), declared)
    if not records:
        raise InvalidRunList([_("The list is empty.")], hint=_("Enter at least one keyword."))
    if len(records) > MAX_ROWS:
        raise InvalidRunList(
            [
                _("The list has %(count)d runs, but at most %(limit)d can be started at once.")
                % {"count": len(records), "limit": MAX_ROWS}
            ],
            hint=_("Split the list."),
        )
    rows, problems = [], list[str]()
    for line, cells in records:
        try:
            rows.append(ListedRow(line, _config(line, cells, declared, common)))
        except InvalidRunConfig as error:
            problems.append(error.message)
    if problems:
        raise InvalidRunList(problems)
    return rows


def repeated(rows: Sequence[ListedRow]) -> list[tuple[int, int]]:
    """Return (line, earlier line) for each line that has the same configuration as an earlier one."""
    first: dict[str, int] = {}
    found = []
    for row in rows:
        earlier = first.setdefault(json.dumps(row.config.document(), sort_keys=True), row.line)
        found += [(row.line, earlier)] if earlier != row.line else []
    return found


def _records(text: str, declared: Mapping[str, DeclaredInput]) -> list[tuple[int, dict[str, str]]]:
    """Return the line number and {column: cell} of each row that is not blank."""
    # Not `splitlines`, which also breaks lines at characters that no keyword may contain, such as U+2028.
    lines = re.split(r"\r\n|\r|\n", text)
    delimiter = _delimiter(lines[0])
    if delimiter is None:
        return [(number, {"keyword": line}) for number, line in enumerate(lines, 1) if not is_blank(line)]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [strip_invisible(name) for name in next(reader)]
        _check_header(header, declared)
        return list(_csv_records(reader, header))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            # The reader has read the rest of the text as one cell, so it cannot say where that began.
            raise InvalidRunList(
                [_("The CSV is not valid: an opening quotation mark has no closing one.")],
                hint=_("Close each quoted cell with a quotation mark."),
            ) from error
        raise InvalidRunList(
            [_("Line %(line)d is not valid CSV: %(reason)s.") % {"line": reader.line_num, "reason": error}],
            hint=_("Check the quotation marks."),
        ) from error


def _csv_records(reader: Iterator[list[str]], header: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    before = 1
    for cells in reader:
        line, before = before + 1, reader.line_num  # type: ignore[attr-defined]
        if all(is_blank(cell) for cell in cells):
            continue
        if len(cells) > len(header) and not all(is_blank(cell) for cell in cells[len(header) :]):
            raise InvalidRunList(
                [
                    _("Line %(line)d has %(count)d cells, but the first line has only %(columns)d.")
                    % {"line": line, "count": len(cells), "columns": len(header)}
                ]
            )
        yield line, {name: cell for name, cell in zip(header, cells, strict=False) if not is_blank(cell)}


def _delimiter(first: str) -> str | None:
    """Return the delimiter of a CSV's first line; None if the text is not a CSV."""
    for delimiter in DELIMITERS:
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if "keyword" in [strip_invisible(cell) for cell in cells]:
            return delimiter
    return None


def _check_header(header: Sequence[str], declared: Mapping[str, DeclaredInput]) -> None:
    known = [*COMMON, *declared]
    for name in header:
        if name not in known:
            raise InvalidRunList(
                [_("Line 1: there is no input %(name)s.") % {"name": repr(name)[:60]}],
                hint=_("The list can have these columns: %(names)s.") % {"names": ", ".join(known)},
            )
        if header.count(name) > 1:
            raise InvalidRunList([_("Line 1 names the column %(name)s more than once.") % {"name": name}])


def _config(
    line: int, cells: Mapping[str, str], declared: Mapping[str, DeclaredInput], common: Mapping[str, object]
) -> RunConfig:
    given = {name: _value(line, declared.get(name), name, cell) for name, cell in cells.items()}
    document = {**common, **given}
    for one in declared.values():
        if one.required and "steps" not in common and document.get(one.name) in (None, "", []):
            raise InvalidRunConfig(_("Line %(line)d: %(name)s is required.") % {"line": line, "name": one.name})
    try:
        return config_from_document(document)
    except InvalidRunConfig as error:
        raise InvalidRunConfig(
            _("Line %(line)d: %(problem)s") % {"line": line, "problem": error.message}, hint=error.hint
        ) from error


def _value(line: int, one: DeclaredInput | None, name: str, cell: str) -> object:
    kind = one.type if one else "string"
    if kind == "string":
        return strip_invisible(cell) if name in COMMON else cell
    text = strip_invisible(cell)
    try:
        return {"integer": _integer, "boolean": _boolean, "list": _items}[kind](text)
    except ValueError as error:
        raise InvalidRunConfig(WANTED[kind] % {"line": line, "name": name, "value": repr(text)[:60]}) from error


def _integer(text: str) -> int:
    # int() takes quadratic time for a text of many digits.
    if len(text.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in YES | NO:
        raise ValueError(text)
    return text.lower() in YES


def _items(text: str) -> list[object]:
    if not text.startswith("["):
        return [item.strip() for item in text.replace("\n", ";").split(";") if item.strip()]
    items = parse_json(text)
    if not isinstance(items, list):
        raise ValueError(text)
    return items


def _too_large() -> InvalidRunList:
    return InvalidRunList(
        [_("The list is larger than %(limit)d KiB.") % {"limit": MAX_BYTES // 1024}], hint=_("Split the list.")
    )
