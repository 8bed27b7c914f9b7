"""What is left out of a plain dump, what passes unchanged, such as data and quoted text, and what is refused."""

from __future__ import annotations

import io

import pytest

from tenants.backup import sql_filter
from tenants.backup.sql_filter import NotADump, statements

# Lines that are left out, unless they are data or quoted text.
NOT_OURS = (
    "ALTER TABLE public.runs OWNER TO somebody;\n"
    "GRANT SELECT ON TABLE public.runs TO somebody;\n"
    "REVOKE ALL ON SCHEMA public FROM PUBLIC;\n"
    "ALTER DEFAULT PRIVILEGES FOR ROLE x IN SCHEMA public GRANT SELECT ON TABLES TO y;\n"
    "SET transaction_timeout = 0;\n"
    "SET default_table_access_method = heap;\n"
    "\\restrict abc123\n"
    "\\unrestrict abc123\n"
)
COPY = "COPY public.runs (id) FROM stdin;\n"


def filtered(text: str) -> str:
    """Return what psql is given, without the first and the last line, which disable and enable backslash commands."""
    lock, *lines, unlock = b"".join(statements(io.BytesIO(text.encode()))).decode().splitlines(keepends=True)
    assert lock.startswith("\\restrict ") and unlock == lock.replace("\\restrict", "\\unrestrict")
    return "".join(lines)


def test_commands_that_are_not_ours_are_left_out() -> None:
    assert filtered(f"SELECT 1;\n{NOT_OURS}SELECT 2;\n") == "SELECT 1;\nSELECT 2;\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{COPY}{NOT_OURS}\\.\n",
        f"{COPY}\\.\n",
        f"INSERT INTO runs VALUES ('it''s\n{NOT_OURS}{COPY}');\n",
        f"INSERT INTO runs VALUES (E'\\'\n{NOT_OURS}\\\\');\n",
        f"CREATE FUNCTION f() AS $_$\n{NOT_OURS}{COPY}$$ $other$ ' \" -- /*\n$_$;\n",
        f'COMMENT ON COLUMN runs."odd\n{NOT_OURS}" IS NULL;\n',
        f"/* a comment's\n{NOT_OURS}*/ SELECT 1;\n",
        "SELECT 1 AS no$$tag;\n",
    ],
    ids=["data", "no data", "text", "escaped text", "function", "name", "comment", "no quote"],
)
def test_what_is_no_command_passes_and_what_follows_is_filtered(text: str) -> None:
    assert filtered(text + NOT_OURS + text + NOT_OURS) == text + text


@pytest.mark.parametrize(
    "line",
    [
        "-- it's a comment's apostrophe\n",
        "SELECT 'costs $$' AS x;\n",
        "SELECT '--', '/*', \"'\", $$'$$, $a$ $$ $a$;\n",
        "SELECT E'a\\'b', e'\\\\', 'c\\';\n",
    ],
)
def test_what_is_quoted_on_a_line_quotes_nothing_after_it(line: str) -> None:
    assert filtered(line + NOT_OURS) == line


def test_data_is_passed_in_pieces_and_its_end_is_found_at_the_edge_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    row = "x" * 10 + "\\.\n"
    for size in range(3, 16):
        monkeypatch.setattr(sql_filter, "CHUNK_BYTES", size)
        assert filtered(f"{COPY}{row}\\.\n{NOT_OURS}SELECT 1;\n") == f"{COPY}{row}\\.\nSELECT 1;\n"


def test_data_without_an_end_is_refused() -> None:
    with pytest.raises(NotADump, match="The dump ends in the middle of a table's data"):
        filtered(f"{COPY}1\n2\n")


def test_a_line_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_filter, "MAX_LINE_BYTES", 100)
    assert filtered("-" * 99 + "\n")
    with pytest.raises(NotADump, match="The dump contains a line longer than"):
        filtered("-" * 100 + "\n")
