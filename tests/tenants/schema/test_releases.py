"""How a release interprets migration histories, without a database."""

import ast

import pytest

from config.stack.paths import CHECKOUT
from tenants.schema.releases import History, Release, SchemaState, digest_of, migration_files, release, short
from tenants.schema.template import _sources

pytestmark = pytest.mark.unit

A1, A2, A3 = ("runs", "0001_a"), ("runs", "0002_b"), ("runs", "0003_c")
B1 = ("prompts", "0001_p")
CODE = Release(
    migrations={B1: (), A1: (), A2: (), A3: ()},
    parents={B1: (), A1: (B1,), A2: (A1,), A3: (A2,)},
    targets=(B1, A3),
)
# The first two of `runs` were squashed.
SQUASH = ("runs", "0001_squashed_0002_b")
SQUASHED = Release(
    migrations={B1: (), SQUASH: (A1, A2), A3: ()},
    parents={B1: (), SQUASH: (B1,), A3: (SQUASH,)},
    targets=(B1, A3),
)


def history(*keys: tuple[str, str]) -> History:
    return frozenset(keys)


def test_the_codes_own_migrations_are_read_and_consistent() -> None:
    code = release()
    everything = frozenset(code.migrations)
    assert code.is_complete(everything) and code.problem(everything) == ""
    assert code.version_of(everything) == code.version
    assert {app for app, _name in everything} == {"audit", "prompts", "runs", "tenant_identity"}


@pytest.mark.parametrize("code", [CODE, SQUASHED])
@pytest.mark.parametrize(
    ("applied", "complete", "version"),
    [
        (history(), False, ""),
        (history(B1), False, "prompts.0001_p"),
        (history(B1, A1, A2, A3), True, "prompts.0001_p runs.0003_c"),
    ],
)
def test_a_state_is_named_by_the_newest_of_each_app(
    code: Release, applied: History, complete: bool, version: str
) -> None:
    assert (code.is_complete(applied), code.version_of(applied), code.problem(applied)) == (complete, version, "")


def test_a_squashed_migration_stands_for_those_that_it_replaces() -> None:
    assert SQUASHED.is_applied(SQUASH, history(B1, A1, A2))
    assert SQUASHED.version_of(history(B1, A1, A2)) == SQUASHED.version_of(history(B1, A1, A2, SQUASH))
    assert not SQUASHED.is_applied(SQUASH, history(B1, A1))
    assert SQUASHED.version_of(history(B1, A1)) == "prompts.0001_p runs.0001_a"


def test_what_the_code_does_not_know_is_ahead_of_it() -> None:
    later = history(B1, A1, A2, A3, ("runs", "0004_d"))
    assert CODE.problem(later) == "The database is ahead of this code, which does not know runs.0004_d."
    assert CODE.state_of(CODE.version_of(later)) == SchemaState.AHEAD


def test_a_gap_is_named() -> None:
    assert (
        CODE.problem(history(B1, A1, A3))
        == "The database's migration history is inconsistent: runs.0003_c is applied without runs.0002_b."
    )


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("", SchemaState.UNKNOWN),
        ("prompts.0001_p runs.0003_c", SchemaState.CURRENT),
        ("prompts.0001_p runs.0001_a", SchemaState.BEHIND),
        ("prompts.0001_p runs.0009_z", SchemaState.AHEAD),
    ],
)
def test_versions_are_compared_without_a_database(version: str, state: SchemaState) -> None:
    assert CODE.state_of(version) == state


def test_versions_are_shortened_for_people() -> None:
    assert short("audit.0001_initial runs.0002_guards_and_costs other.named") == "audit.0001 runs.0002 other.named"


def test_a_history_is_looked_up_by_its_names_in_any_order() -> None:
    assert digest_of([A1, B1]) == digest_of([B1, A1]) != digest_of([A1])


def test_a_templates_name_depends_on_every_file_that_the_migrations_run() -> None:
    """What a migration imports from the product is as much its content as its own file."""
    imported = set()
    for path in migration_files():
        for node in ast.walk(ast.parse(path.read_text())) if path.suffix == ".py" else ():
            if isinstance(node, ast.ImportFrom) and node.module and (CHECKOUT / node.module.partition(".")[0]).is_dir():
                imported.add(CHECKOUT / f"{node.module.replace('.', '/')}.py")
    assert imported and imported <= set(_sources())
