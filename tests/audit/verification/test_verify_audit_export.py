"""The standalone script passes unbroken files, and reports changed ones with the first bad line."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from audit.log.chain_check import CONTROL_CHAIN, genesis_of
from audit.log.file_format import FIELDS, entry_hash, json_line
from audit.verification.export import audit_export
from config.stack.paths import CHECKOUT
from tenants.models import Tenant
from tests.audit.conftest import Log
from tests.audit.log.test_archive import INSERT, ODD

SCRIPT = CHECKOUT / "docs" / "verify_audit_export.py"
IDENTITY = UUID("7d1c3c1e-9a9b-4d0f-8f5e-1f2a3b4c5d6e")
Lines = list[bytes]


def verify(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script without access to our packages or any others."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(file), *options],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def chain(texts: list[str], identity: UUID = IDENTITY) -> Lines:
    """Return the lines of a log with one entry for each of the texts."""
    head, lines = genesis_of(identity), []
    for number, text in enumerate(texts, start=1):
        details = json.dumps({"text": text}, ensure_ascii=False) if number % 2 else None
        fields = [str(number), head, "2026-01-31T12:00:00.000000Z", text, "run.create", "run", "r", details, None]
        head = entry_hash(fields)
        lines.append(json_line(fields, head))
    return lines


def head_of(lines: Lines) -> str:
    return str(json.loads(lines[-1])["entry_hash"])


WHOLE = chain([*ODD, *"abcd"])
HEAD = head_of(WHOLE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_it_is_short_and_needs_only_python() -> None:
    source = SCRIPT.read_text()
    assert len(source.splitlines()) < 100
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert imported <= sys.stdlib_module_names


def test_a_tenants_export_passes(tenant: Tenant, tenant_log: Log, file: Path) -> None:
    with tenant_log.as_app() as app:
        for number, text in enumerate(ODD * 3):
            app.execute(INSERT, (text, f"x{number}", text, '{"é": [1.0, null, "\\n"]}' if number % 2 else None))
    exported = audit_export(tenant_id=tenant.id, output=str(file))
    result = verify(file, "--identity", exported.chain_identity, "--head", exported.head)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{exported.entries} entries, unbroken; the last has the hash {exported.head}" in result.stdout
    assert "proven beyond that: where it begins, where it ends" in result.stdout


def test_the_control_logs_export_passes(control_log: Log, file: Path) -> None:
    exported = audit_export(tenant_id=None, output=str(file))
    result = verify(file, "--identity", CONTROL_CHAIN, "--head", exported.head)
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_identity_and_head_it_reports_what_is_not_proven(file: Path) -> None:
    file.write_bytes(b"".join(WHOLE))
    result = verify(file)
    assert result.returncode == 0 and "proven beyond that: nothing" in result.stdout


def changed(lines: Lines, number: int, **fields: object) -> Lines:
    document = {**json.loads(lines[number - 1]), **fields}
    line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
    return [*lines[: number - 1], line, *lines[number:]]


def recomputed_alone(lines: Lines, number: int) -> Lines:
    """Change an entry and recompute its hash, as someone who knows the format would."""
    document = json.loads(changed(lines, number, action="forged")[number - 1])
    return changed(lines, number, action="forged", entry_hash=entry_hash([document[name] for name in FIELDS]))


def twice(lines: Lines, number: int) -> Lines:
    """Add a second `action` to the line, before the hashed one; another reader might show the added one."""
    line = lines[number - 1].replace(b'"action"', b'"action": "shown instead", "action"', 1)
    return [*lines[: number - 1], line, *lines[number:]]


DAMAGE: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "changed": (lambda lines: changed(lines, 4, user_id="somebody else"), 4, "it was changed"),
    "details changed": (lambda lines: changed(lines, 3, details="{}"), 3, "it was changed"),
    "null for text": (lambda lines: changed(lines, 3, details=None), 3, "it was changed"),
    "time changed": (lambda lines: changed(lines, 5, created_at="2026-01-31T12:00:00.000001Z"), 5, "it was changed"),
    "removed": (lambda lines: lines[:3] + lines[4:], 4, "it is entry 5"),
    "the first removed": (lambda lines: lines[1:], 1, "it is entry 2"),
    "swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "it is entry 4"),
    "doubled": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4, "it is entry 3"),
    "renumbered": (lambda lines: changed(lines[:3] + lines[4:], 4, sequence="4"), 4, "does not follow"),
    "forged with its hash": (lambda lines: recomputed_alone(lines, 4), 5, "does not follow the entry before it"),
    "a forged end": (lambda lines: changed(lines, len(lines), entry_hash="0" * 64), len(WHOLE), "it was changed"),
    "cut within a line": (lambda lines: [*lines[:-1], lines[-1][:40]], len(WHOLE), "not JSON, or was truncated"),
    "not JSON": (lambda lines: [*lines[:5], b"nonsense\n", *lines[5:]], 6, "not JSON"),
    "not UTF-8": (lambda lines: [b"\xff\xfe\n", *lines], 1, "not JSON"),
    "an empty line": (lambda lines: [*lines[:2], b"\n", *lines[2:]], 3, "not JSON"),
    "another document": (lambda lines: [b"[]\n", *lines], 1, "fields of an entry"),
    "a field more": (lambda lines: changed(lines, 2, note="unhashed"), 2, "fields of an entry"),
    "a field twice": (lambda lines: twice(lines, 2), 2, "fields of an entry"),
    "a number for text": (lambda lines: changed(lines, 2, sequence=2), 2, "a field is not text"),
    "half a character": (lambda lines: [lines[0].replace(b"run.create", b"\\ud800"), *lines[1:]], 1, "surrogates"),
    "deeply nested": (lambda lines: [b"[" * 100_000 + b"\n", *lines], 1, "not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_first_bad_line_is_reported_with_the_reason(file: Path, damage: str) -> None:
    change, number, reason = DAMAGE[damage]
    file.write_bytes(b"".join(change(WHOLE)))
    result = verify(file, "--identity", str(IDENTITY), "--head", HEAD)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"{file}: line {number}: ") and reason in result.stdout


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (WHOLE[:-1], f"it ends after line {len(WHOLE) - 1}, but not with --head"),
        (chain(["recomputed", *ODD[1:], *"abcd"]), f"it ends after line {len(WHOLE)}, but not with --head"),
        ([], "it ends after line 0, but not with --head"),
    ],
    ids=["cut at the end", "forged from the beginning", "emptied"],
)
def test_the_head_proves_the_end(file: Path, lines: Lines, told: str) -> None:
    file.write_bytes(b"".join(lines))
    result = verify(file, "--identity", str(IDENTITY), "--head", HEAD)
    assert result.returncode == 1 and told in result.stdout


def test_the_identity_proves_the_beginning(file: Path) -> None:
    file.write_bytes(b"".join(chain(["another tenant's"], UUID(int=7))))
    assert verify(file).returncode == 0
    result = verify(file, "--identity", str(IDENTITY))
    assert result.returncode == 1 and "line 1: it does not start this chain" in result.stdout
    assert verify(file, "--identity", str(UUID(int=7)).upper()).returncode == 0


def test_an_empty_file_passes_only_as_a_log_without_entries(file: Path) -> None:
    file.write_bytes(b"")
    result = verify(file)
    assert result.returncode == 1 and "it holds no entries" in result.stdout
    assert verify(file, "--identity", str(IDENTITY)).returncode == 1
    assert verify(file, "--identity", str(IDENTITY), "--head", genesis_of(IDENTITY)).returncode == 0


def test_an_unreadable_file_and_wrong_usage_exit_2(file: Path) -> None:
    result = verify(file)
    assert (result.returncode, result.stderr) == (2, f"{file} cannot be read: No such file or directory\n")
    file.write_bytes(b"".join(WHOLE))
    assert verify(file, "--head", "abc").returncode == 2
    assert verify(file, "--nonsense").returncode == 2


def test_it_agrees_with_the_database(tenant: Tenant, tenant_log: Log, file: Path) -> None:
    with psycopg.connect(tenant_log.app_url) as app:
        app.execute(tenant_log.insert)
    audit_export(tenant_id=tenant.id, output=str(file))
    fields = json.loads(file.read_bytes().splitlines()[-1])
    texts = [fields[name] for name in FIELDS]
    form = ",".join("-" if text is None else f"{len(text.encode())}:{text}" for text in texts)
    assert hashlib.sha256(form.encode()).hexdigest() == fields["entry_hash"]
