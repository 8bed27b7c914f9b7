"""Every row of the table of attacks (docs/audit.md) names a test that exists, and every attack test has a row."""

import ast
import re
from pathlib import Path

from config.stack.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "audit.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ATTACKING = ("test_attacks.py", "test_archive_attacks.py")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def rows() -> list[list[str]]:
    table = PAGE.read_text().partition("## Attacks")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_names_a_test_that_exists() -> None:
    assert len(rows()) > 40
    for attack, _who, result, _by, test in rows():
        found = NAMED.fullmatch(test)
        assert found, attack
        assert found[2] in functions(CHECKOUT / found[1]), test
        assert result in ("blocked", "detected"), attack


def test_every_attack_test_is_in_the_table() -> None:
    named = {test for *_cells, test in rows()}
    for file in ATTACKING:
        path = f"tests/audit/verification/{file}"
        tests = {name for name in functions(CHECKOUT / path) if name.startswith("test_")}
        missing = {name for name in tests if f"`{path}::{name}`" not in named}
        assert missing <= {"test_the_archived_log_of_an_erased_tenant_verifies"}
