"""Dumps and bundles as an attacker might make them."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from config import stack
from config.stack.paths import CHECKOUT
from tenants.backup.backup import tenant_backup
from tenants.backup.dump import DumpFormat
from tenants.models import Tenant
from tenants.transfer.export import tenant_export

FOLDER = Path(__file__).with_name("dumps")
BUNDLE_PARTS = ("manifest.json", "control.json", "audit.jsonl", "dump", "storage.tar")

# Writes its caller into the server's log, which no rollback undoes; then tries to gain more rights.
MARK = r"""
CREATE FUNCTION public.mark(what text) RETURNS void LANGUAGE plpgsql AS $_$
BEGIN
  RAISE LOG 'planted % was called by %', what, current_user;
  BEGIN
    EXECUTE 'SET ROLE NONE';
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
      EXECUTE 'COPY (SELECT current_user, session_user) TO PROGRAM ''cat > @MARK@''';
    END IF;
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
END;
$_$;
"""
# For each name, functions with one or two arguments of any type, or three of the same type, that return what
# PostgreSQL's own function returns.
FUNCTIONS = r"""
DO $do$
DECLARE
  types text[] := '{text,name,oid,integer,bigint,"char",uuid,jsonb,regclass,regrole,timestamptz,boolean}'
               || '{text[],aclitem[]}'::text[];
  few text[] := '{text,name,oid,integer,regclass}';
  one record; a text; b text; result text;
BEGIN
  FOR one IN
    SELECT DISTINCT ON (proname) proname, format_type(prorettype, NULL) AS type, proretset,
           (SELECT typtype FROM pg_catalog.pg_type WHERE pg_type.oid = prorettype) = 'p' AS vague
      FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (@NAMES@)
     ORDER BY proname, oid
  LOOP
    result := CASE WHEN one.proretset THEN 'SETOF ' ELSE '' END || CASE WHEN one.vague THEN 'text' ELSE one.type END;
    FOREACH a IN ARRAY types LOOP
      PERFORM public.plant(one.proname, a, result);
    END LOOP;
    FOREACH a IN ARRAY few LOOP
      FOREACH b IN ARRAY few LOOP
        PERFORM public.plant(one.proname, a || ', ' || b, result);
        PERFORM public.plant(one.proname, 'text, ' || a || ', ' || b, result);
      END LOOP;
    END LOOP;
  END LOOP;
END $do$;
"""
PLANT = r"""
CREATE FUNCTION public.plant(name text, arguments text, result text) RETURNS void LANGUAGE plpgsql AS $_$
BEGIN
  EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', name, arguments, result,
                 format('BEGIN PERFORM public.mark(%L); %s END', name || '(' || arguments || ')',
                        CASE WHEN result LIKE 'SETOF %' THEN 'RETURN;' ELSE 'RETURN NULL;' END));
EXCEPTION WHEN duplicate_function OR syntax_error OR invalid_function_definition THEN NULL;
END;
$_$;
"""
# Each is between two types for which PostgreSQL itself has no such operator.
OPERATORS = r"""
DO $do$
DECLARE
  types text[] := '{text,name,oid,integer,bigint,smallint,"char",uuid,regclass,regrole,xid,jsonb}';
  sign text; a text; b text; number integer := 0;
BEGIN
  FOREACH sign IN ARRAY @SIGNS@ LOOP
    FOREACH a IN ARRAY types LOOP
      FOREACH b IN ARRAY types LOOP
        CONTINUE WHEN to_regoperator(format('pg_catalog.%s(%s,%s)', sign, a, b)) IS NOT NULL;
        number := number + 1;
        EXECUTE format('CREATE FUNCTION public.sign_%s(a %s, b %s) RETURNS boolean LANGUAGE plpgsql AS %L',
                       number, a, b,
                       format('BEGIN PERFORM public.mark(%L); RETURN true; END', a || ' ' || sign || ' ' || b));
        EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.sign_%s, LEFTARG = %s, RIGHTARG = %s)',
                       sign, number, a, b);
      END LOOP;
    END LOOP;
  END LOOP;
END $do$;
"""


@dataclass(frozen=True)
class Canary:
    """The traces that planted code leaves when it is run."""

    # Must never exist.
    file: Path
    log: Path
    # How long the log was before.
    offset: int

    @classmethod
    def at(cls, home: stack.Home, folder: Path) -> Canary:
        log = home.log_file("postgres")
        return cls(folder / "taken over", log, log.stat().st_size)

    def case(self, name: str) -> str:
        """Return the SQL of a file in `dumps`; some of these files try to create `file`."""
        return (FOLDER / f"{name}.sql").read_text().replace("@MARK@", str(self.file))

    def calls(self) -> list[tuple[str, str]]:
        """Return (object, caller) for each logged call of a planted object since this canary was made."""
        with self.log.open("rb") as file:
            file.seek(self.offset)
            text = file.read().decode(errors="replace")
        return re.findall(r"planted (.+?) was called by (\S+)", text)

    def callers(self) -> set[str]:
        return {role for _what, role in self.calls()}


@cache
def our_sql() -> tuple[str, ...]:
    """Return all strings in the code of the apps that use tenants' databases, and the text of these apps' SQL files.

    Strings that contain no SQL are included too.
    """
    texts: list[str] = []
    for app in ("audit", "prompts", "runs", "tenants"):
        for path in (CHECKOUT / app).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text()))
            texts += (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        texts += (re.sub(r"--.*", "", path.read_text()) for path in (CHECKOUT / app).rglob("*.sql"))
    return tuple(texts)


@cache
def names_used() -> list[str]:
    """Return the unqualified names before a parenthesis in our strings; not all of them are functions."""
    return sorted({name for text in our_sql() for name in re.findall(r"(?<![\w.\"])([a-z_][a-z0-9_]+)\(", text)})


@cache
def signs_used() -> list[str]:
    """Return the operators that our SQL uses, limited to those that SQL can define."""
    found = {sign for text in our_sql() for sign in re.findall(r"(?<=[\s\w)'])[-+*/<>=~!@#%^&|?]+(?=[\s\w('])", text)}
    return sorted(found & SIGNS)


# What can be defined between two values of any types.
SIGNS = {"=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "&", "|", "||", "->", "->>", "~", "~~", "@>", "?"}


def mark(canary: Canary) -> str:
    """Return SQL that creates `public.mark`: it logs its caller, and in a superuser's session writes `canary.file`."""
    return MARK.replace("@MARK@", str(canary.file))


def planted(canary: Canary, *, operators: bool = True) -> str:
    """Return SQL that plants functions and operators that fit better than those that our SQL uses."""
    names, signs = ("ARRAY[" + ", ".join(f"'{one}'" for one in found) + "]" for found in (names_used(), signs_used()))
    functions, others = FUNCTIONS.replace("@NAMES@", names), OPERATORS.replace("@SIGNS@", signs)
    return mark(canary) + PLANT + functions + (others if operators else "") + "DROP FUNCTION public.plant;\n"


def plain_dump(tenant: Tenant, folder: Path, *, tail: str = "") -> Path:
    """Write the tenant's own dump to a plain file that is not in the catalogue, with SQL appended; return its path."""
    [outcome] = tenant_backup(tenant_id=tenant.id, output=str(folder / "own"), dump_format=DumpFormat.PLAIN)
    assert outcome.backup is not None, outcome.problem
    file = folder / "from somebody.sql"
    text = Path(f"{outcome.backup.place}/{outcome.backup.name}").read_text()
    file.write_text(f"{text}\n{tail}")
    return file


def with_manifest(file: Path, **added: int) -> Path:
    """Copy a `plain_dump`, and write a matching manifest beside it, as anyone who can write dumps can; return its path.

    `added` maps tables to their numbers of rows, if the appended SQL changes these.
    """
    [own] = (path for path in (file.parent / "own").glob("*.json"))
    document = json.loads(own.read_text())
    document["rows"] |= added
    content = file.read_bytes()
    target = file.with_name("forged.sql")
    target.write_bytes(content)
    stored = {"name": target.name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    target.with_name(f"{target.name}.json").write_text(json.dumps({**document, "file": stored, "format": "plain"}))
    return target


def exported(tenant: Tenant, folder: Path) -> dict[str, bytes]:
    """Export the tenant, and return the contents of the bundle's parts by name."""
    file = folder / "own.bundle"
    tenant_export(tenant_id=tenant.id, output=str(file))
    with tarfile.open(file) as archive:
        return {name: archive.extractfile(name).read() for name in BUNDLE_PARTS}  # type: ignore[union-attr]


def bundle(parts: dict[str, bytes], file: Path, *, rows: Mapping[str, int] | None = None, **changes: Any) -> Path:
    """Write a bundle of the parts with a matching manifest, to which `changes` are made; return its path.

    `rows` maps tables to the dump's number of rows if it differs from the manifest's.
    """
    manifest = json.loads(parts["manifest.json"])
    manifest["rows"] |= rows or {}
    manifest["parts"] = [stored(name, parts[name]) for name in BUNDLE_PARTS[1:]]
    manifest["file"], manifest["storage"] = stored("dump", parts["dump"]), stored("storage.tar", parts["storage.tar"])
    manifest |= changes
    with tarfile.open(file, "w") as archive:
        for name in BUNDLE_PARTS:
            content = json.dumps(manifest).encode() if name == "manifest.json" else parts[name]
            add(archive, name, content)
    return file


def stored(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **header: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in header.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))
