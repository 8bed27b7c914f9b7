"""Nobody asks a tenant's or a guest's database anything but by the one way that trusts nothing in it.

`audit.log.safe_search_path.catalog_only` looks names up in pg_catalog alone. Every statement of ours that is
written as SQL must be executed inside it, or stand here with the reason why it need not be. What Django's models ask
for is not found so: that is asked of databases that were proven (`tenants.restore.proof`) or were never a stranger's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.stack.paths import CHECKOUT

pytestmark = pytest.mark.unit

# Who may speak to a database past Django does so in the maintenance database, or as the tenant itself.
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
    "runs.services.sweep": {"tenant_sweep": NAMELESS},
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
    """Return whether a `with catalog_only(…)` encloses the node within its function."""
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
    """Yield the function of each statement that is sent outside."""

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
