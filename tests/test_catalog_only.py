"""Our SQL statements run inside `audit.log.safe_search_path.catalog_only`, which looks names up in pg_catalog alone.

Each statement must do so, or be listed here with the reason why it need not. This test does not find queries by
Django's models: they run only in databases that were proven (`tenants.restore.proof`) or never came from a stranger.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

# Modules that may query a database without Django do so in the maintenance database, or as the tenant itself.
APPS = ("audit", "prompts", "runs", "tenants")
LEFT_OUT = ("migrations", "session", "backend")
SENDS = ("execute", "executemany", "copy", "raw", "extra")

CONTROL = "asks the control database"
NAMELESS = "names no function, operator or table"
PROVEN = "in a database that was proven, or proven in the same transaction"
NOT_SQL = "is no database's"
# {module: {function: why}}
ELSEWHERE: dict[str, dict[str, str]] = {
    "audit.log.archive": {"archived_lines": CONTROL},
    "audit.log.safe_search_path": {"catalog_only": "is the way itself"},
    "runs.messages.sending": {"erase_messages": NOT_SQL},
    "runs.costs.show": {"costs_chosen": CONTROL},
    "runs.costs.summarize": {"costs_summarize": PROVEN},
    "runs.steps.budget": {"_used": PROVEN, "_warn": PROVEN},
    "runs.steps.call": {"_insert": PROVEN, "call_settle": PROVEN, "call_mark_unknown": PROVEN},
    "runs.steps.claim": {"_take": PROVEN},
    "runs.steps.rows": {"earlier_outputs": PROVEN},
    "runs.steps.fallbacks.leave": {"_leave": NAMELESS},
    "runs.steps.finish": {"_complete": PROVEN},
    "runs.steps.sweep": {"tenant_sweep": NAMELESS},
    "runs.summaries.rows": {"write_rows": CONTROL},
    "runs.summaries.summarize": {"_summarize": PROVEN},
    "audit.verification.logs": {"_row": CONTROL},
    "tenants.fleet.batch_jobs": {"end": CONTROL},
    "tenants.servers.control_rights": {"control_rights_missing": CONTROL, "control_rights_problems": CONTROL},
    "tenants.schema.drift": {"note_schemas": CONTROL},
    "tenants.routing.held_transaction": {"send_statements": NAMELESS},
    "tenants.management.commands.migrate": {"execute": NOT_SQL},
    "tenants.transfer.new_tenant": {"fill": f"{NAMELESS}; {PROVEN}"},
    "tenants.operations": {"_execute": CONTROL, "_held_by": CONTROL},
    "tenants.servers.foreign_transactions": {"foreign_beside_control": CONTROL},
    "tenants.restore.proof": {"_reading": NAMELESS},
    "tenants.schema.recorded_sql": {"_execute": PROVEN, "execute": "a rehearsal's"},
    "audit.verification.anchor": {"_latest": CONTROL, "_now": CONTROL},
    "audit.verification.verify": {"_archive": CONTROL},
    "tenants.restore.restore": {"_settle": f"{NAMELESS}; {PROVEN}"},
    "tenants.backup.snapshot": {"snapshot": NAMELESS},
    "tenants.pitr.dead_rows": {"_asked": CONTROL, "_rewritten": CONTROL},
    "tenants.fleet.two_phase": {"_execute": NAMELESS},
}


def modules() -> Iterator[Path]:
    for app in APPS:
        for path in sorted((CHECKOUT / app).rglob("*.py")):
            if not set(LEFT_OUT) & set(path.relative_to(CHECKOUT).parts):
                yield path


def is_guarded(ancestors: list[ast.AST]) -> bool:
    """Return whether a `with catalog_only(…)` in the same function encloses the node."""
    for node in reversed(ancestors):
        if isinstance(node, ast.With):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "catalog_only":
                    return True
        if isinstance(node, ast.FunctionDef):
            return False
    return False


def unguarded(path: Path) -> Iterator[str]:
    """Yield the name of the function around each statement that is executed outside `with catalog_only(…)`."""

    def walk(node: ast.AST, ancestors: list[ast.AST]) -> Iterator[str]:
        sends = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDS
        if sends and not is_guarded(ancestors):
            functions = [one.name for one in ancestors if isinstance(one, ast.FunctionDef)]
            yield functions[-1] if functions else "<module>"
        for child in ast.iter_child_nodes(node):
            yield from walk(child, [*ancestors, node])

    yield from walk(ast.parse(path.read_text()), [])


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_every_statement_is_sent_inside_the_one_way_or_says_why_not(path: Path) -> None:
    assert sorted(set(unguarded(path))) == sorted(ELSEWHERE.get(name_of(path), {}))


def test_the_list_of_exceptions_names_no_module_that_is_gone() -> None:
    assert set(ELSEWHERE) <= {name_of(path) for path in modules()}


def test_no_sql_is_passed_to_a_model() -> None:
    assert [name_of(path) for path in modules() if "RawSQL" in path.read_text()] == []
