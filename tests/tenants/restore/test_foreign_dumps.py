"""Nothing in a dump ever runs as a role other than its guest, whatever it contains and however it comes in."""

from __future__ import annotations

import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pytest_django import Settings

from audit.verification.anchor import audit_anchor
from audit.verification.verify import audit_verify
from config import stack
from config.base.errors import SeoGenError
from config.stack import process
from tenants.erasure.delete import tenant_delete
from tenants.erasure.verify import erasures_verify
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.status import tenant_statuses
from tenants.models import DatabaseServer, Restore, Tenant, database_prefix
from tenants.restore.drill import tenant_drill
from tenants.restore.load_limits import LoadGuard
from tenants.restore.orphans import tenant_orphans
from tenants.restore.restore import tenant_restore
from tenants.restore.scratch_database import Scratch, throwaway
from tenants.restore.verify_backup import backups_verify
from tenants.servers.session import ServerSession, owner_url
from tenants.transfer.clone import tenant_clone
from tenants.transfer.import_ import tenant_import
from tenants.unfinished import tenant_recover
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant
from tests.tenants.foreign import (
    Canary,
    bundle,
    exported,
    mark,
    names_used,
    plain_dump,
    planted,
    with_manifest,
)
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import add_run, everything_of
from tests.tenants.support.fleets import as_owner
from tests.tenants.support.killed import die_at
from tests.tenants.support.restores import scratch_things

# Ways in: each takes a dump with a tail, and returns the message.
WAYS = ("restore", "--as", "import", "verify", "drill")
RUN = "11111111-1111-4111-8111-111111111111"
# {case: the rows that it adds}
ADDED = {"path": {"runs": 1, "artifacts": 1}}


@pytest.fixture
def canary(stack_home: stack.Home, tmp_path: Path) -> Canary:
    return Canary.at(stack_home, tmp_path)


def told(way: str, tenant: Tenant, folder: Path, tail: str, **added: int) -> str:
    """Read the tenant's own dump, with additions, in one of the WAYS; return the refusal.

    `added` maps tables to their numbers of rows, if `tail` changes these, for a matching manifest.
    """
    file, new_id = plain_dump(tenant, folder, tail=tail), f"new-{uuid.uuid4().hex[:8]}"
    if way == "verify":
        [found] = backups_verify(file=str(with_manifest(file, **added)))
        return found.problem
    if way == "import":
        parts = {**exported(tenant, folder), "dump": file.read_bytes()}
        forged = bundle(parts, folder / "forged.bundle", rows=added, format="plain")
    calls: dict[str, Callable[[], object]] = {
        "restore": lambda: tenant_restore(tenant_id=tenant.id, backup_file=str(file)),
        "--as": lambda: tenant_clone(tenant_id=tenant.id, new_id=new_id, backup_file=str(file)),
        "import": lambda: tenant_import(file=str(forged), new_id=new_id),
        "drill": lambda: tenant_drill(tenant_id=tenant.id, backup_file=str(file)),
    }
    with pytest.raises(SeoGenError) as refused:
        calls[way]()
    return str(refused.value)


def assert_guests_alone(canary: Canary) -> None:
    """Assert that no role except the dump's guests has called a planted object, and that no file was created."""
    strangers = {role for role in canary.callers() if not re.search(r"_(restore|check)_", role)}
    assert strangers == set() and not canary.file.exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("operator", r"The dump contains objects that no migration creates: operator \(1\)"),
        ("function", r"The dump's schema differs from what its migrations create: function quote_ident\(name\)"),
        ("prepared", "Loading the dump left 1 prepared transaction behind"),
        (
            "path",
            r"Row 1 of table artifacts refers to '../../../../../etc/passwd', which does not belong to the tenant",
        ),
    ],
)
def test_each_case_is_refused_by_each_way_in(
    tenant: Tenant, tmp_path: Path, canary: Canary, *, way: str, case: str, reason: str
) -> None:
    live = everything_of(tenant)
    said = told(way, tenant, tmp_path, canary.case(case), **ADDED.get(case, {}))
    assert re.search(reason, said), said
    assert_guests_alone(canary)
    assert everything_of(tenant) == live
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []


@pytest.mark.parametrize("way", WAYS)
def test_no_better_fitting_function_or_operator_is_called(
    tenant: Tenant, tmp_path: Path, canary: Canary, way: str
) -> None:
    said = told(way, tenant, tmp_path, planted(canary))
    assert "The dump contains objects that no migration creates: operator (" in said
    assert canary.calls() == [] and not canary.file.exists()


@pytest.mark.parametrize("way", ["restore", "import", "verify"])
def test_no_better_fitting_function_is_called_where_there_is_no_operator(
    tenant: Tenant, tmp_path: Path, canary: Canary, way: str
) -> None:
    """Without an operator, the dump is refused later, and so goes through more checks."""
    without = planted(canary, operators=False)
    said = told(way, tenant, tmp_path, without)
    assert "The dump's schema differs from what its migrations create: function" in said
    assert canary.calls() == [] and not canary.file.exists()


def test_what_is_planted_would_be_called_where_names_are_looked_for_in_public(
    tenant: Tenant, tmp_path: Path, canary: Canary
) -> None:
    """Otherwise the tests above would prove nothing."""
    assert tenant.server is not None
    assert {"quote_ident", "concat_ws", "encode", "acldefault", "pg_get_viewdef", "count"} <= set(names_used())
    with (
        ServerSession(tenant.server, database_prefix(), "test") as server_session,
        throwaway(server_session) as scratch,
    ):
        scratch.create()
        with psycopg.connect(scratch.url, autocommit=True) as connection:
            # As in a dump; otherwise, planting would already call what was planted.
            connection.execute("SET search_path = pg_catalog")
            connection.execute(planted(canary).encode())
            connection.execute("SET search_path = public")
            connection.execute("SELECT oid >= 16384, quote_ident(nspname) FROM pg_catalog.pg_namespace LIMIT 1")
        assert {"oid >= integer", "quote_ident(name)"} <= {what for what, _role in canary.calls()}
        assert canary.callers() == {scratch.guest} and not canary.file.exists()


@pytest.mark.usefixtures("forgotten")
def test_no_look_into_a_live_database_calls_what_its_owner_has_planted(
    tenant: Tenant, tmp_path: Path, canary: Canary
) -> None:
    """Checks, backups, restores and the erasure call only PostgreSQL's own functions in the tenant's database."""
    add_run(tenant)
    with as_owner(tenant) as connection:
        connection.execute("SET search_path = pg_catalog")
        connection.execute(planted(canary).encode())
    [health] = tenant_statuses(tenant_id=tenant.id, check=True)
    assert health.drift is not None and any(one.startswith("operator ") for one in health.drift)
    assert tenant_migrate(tenant_id=tenant.id, dry_run=True).problems != []
    file = back_up(tenant, tmp_path)
    assert tenant_restore(tenant_id=tenant.id, backup_file=file).drift != []
    tenant_orphans(tenant_id=tenant.id)
    audit_anchor()
    assert [one.log for one in audit_verify(tenant_id=tenant.id)] == ["control", "tenant"]
    tenant_delete(tenant_id=tenant.id)
    assert canary.calls() == [] and not canary.file.exists()


CALL = (
    "CREATE FUNCTION public.called() RETURNS {type} LANGUAGE plpgsql {options} AS"
    " 'BEGIN PERFORM public.mark(''it''); RETURN NULL; END';\n"
)
VALUE = CALL.format(type="text", options="IMMUTABLE")
TRUE = CALL.format(type="boolean", options="IMMUTABLE")
INSTEAD = "DROP TABLE public.{table} CASCADE; CREATE VIEW public.{table} AS SELECT {columns};\n"


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        pytest.param(
            VALUE + INSTEAD.format(table="runs", columns="public.called() AS id"), "schema differs from", id="view runs"
        ),
        pytest.param(
            CALL.format(type="uuid", options="")
            + INSTEAD.format(table="tenant_identity", columns="'x'::text AS tenant_id, public.called() AS identity"),
            "The dump does not contain a tenant's database",
            id="view tenant_identity",
        ),
        pytest.param(
            VALUE + INSTEAD.format(table="audit_logs", columns="1 AS sequence, public.called() AS entry_hash"),
            "The dump does not contain a tenant's database",
            id="view audit_logs",
        ),
        pytest.param(
            VALUE + INSTEAD.format(table="django_migrations", columns="public.called() AS app, 'x'::text AS name"),
            "The dump does not contain a tenant's database",
            id="view django_migrations",
        ),
        pytest.param(
            CALL.format(type="event_trigger", options="") + "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION"
            " public.called();\n",
            "permission denied",
            id="event trigger",
        ),
        pytest.param(
            CALL.format(type="text", options="SECURITY DEFINER"), "schema differs from", id="security definer function"
        ),
        pytest.param(
            "CREATE RULE r AS ON INSERT TO public.runs DO ALSO SELECT public.mark('rule');\n", "rule", id="rule"
        ),
        pytest.param(
            VALUE + "ALTER TABLE public.runs ADD COLUMN g text GENERATED ALWAYS AS (public.called()) STORED;\n",
            "schema differs from",
            id="generated column",
        ),
        pytest.param(
            VALUE + "ALTER TABLE public.tenant_identity ADD COLUMN g text GENERATED ALWAYS AS (public.called())"
            " STORED;\n",
            "The dump does not contain a tenant's database",
            id="generated column of tenant_identity",
        ),
        pytest.param(
            TRUE + "ALTER TABLE public.runs ADD CONSTRAINT c CHECK (public.called()) NOT VALID;\n",
            "schema differs from",
            id="check",
        ),
        pytest.param(
            VALUE + "CREATE INDEX i ON public.prompts ((public.called()));\n",
            "schema differs from",
            id="index expression",
        ),
        pytest.param(
            TRUE + "CREATE DOMAIN public.d AS text CHECK (public.called());\n"
            "ALTER TABLE public.runs ADD COLUMN x public.d;\n",
            "schema differs from",
            id="domain",
        ),
        pytest.param(
            "CREATE TYPE public.e AS ENUM ('a');\n"
            "CREATE FUNCTION public.called(public.e) RETURNS text LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM public.mark(''cast''); RETURN NULL; END';\n"
            "CREATE CAST (public.e AS text) WITH FUNCTION public.called(public.e) AS IMPLICIT;\n"
            "ALTER TABLE public.django_migrations ALTER COLUMN app TYPE public.e USING 'a'::public.e;\n",
            "cast",
            id="cast",
        ),
        pytest.param(
            TRUE + "CREATE POLICY p ON public.runs USING (public.called());\n"
            "ALTER TABLE public.runs ENABLE ROW LEVEL SECURITY; ALTER TABLE public.runs FORCE ROW LEVEL SECURITY;\n",
            "policy",
            id="policy",
        ),
        pytest.param(
            "CREATE TABLE public.child () INHERITS (public.audit_logs);\n", "inherited table", id="inherited table"
        ),
        pytest.param(
            "CREATE TABLE public.parts (a int) PARTITION BY LIST (a);\n"
            "CREATE TABLE public.part PARTITION OF public.parts FOR VALUES IN (1);\n",
            "inherited table",
            id="partition",
        ),
        pytest.param(
            "CREATE SCHEMA audit_logs; CREATE TABLE audit_logs.audit_logs (a int);\n",
            "schema differs from",
            id="schema",
        ),
        pytest.param(
            "CREATE TYPE public.pair AS (a int, b int);\n", "schema differs from .*type pair", id="composite type"
        ),
        pytest.param(
            "ALTER SEQUENCE public.steps_id_seq INCREMENT 2;\n", "sequence steps_id_seq is different", id="sequence"
        ),
    ],
)
def test_an_object_that_would_run_code_is_refused_by_its_name_alone(
    tenant: Tenant, tmp_path: Path, canary: Canary, tail: str, reason: str
) -> None:
    add_run(tenant)
    said = told("restore", tenant, tmp_path, mark(canary) + tail)
    assert re.search(reason, said), said
    assert_guests_alone(canary)


@pytest.mark.parametrize("way", ["restore", "--as"])
def test_a_path_of_another_tenant_is_refused(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path, way: str) -> None:
    tenant, other = tenant_pair
    path = f"storage/{other.id}/{RUN}/final/output.json"
    tail = f"""
        INSERT INTO public.runs (id, status) VALUES ('{RUN}', 'completed');
        INSERT INTO public.steps (run_id, step, status, output_path) VALUES ('{RUN}', 'final', 'completed', '{path}');
    """
    said = told(way, tenant, tmp_path, tail)
    assert f"Row 1 of table steps refers to '{path}', which does not belong to the tenant" in said


def test_foreign_path_in_our_own_backup_is_reported_missing_and_never_read(tenant: Tenant, tmp_path: Path) -> None:
    """The tenant's role can write such a row, which must not keep its backups from being restored."""
    run = add_run(tenant)
    for path in ("../../../../../etc/passwd", "storage/another/x"):
        with psycopg.connect(tenant.database_url) as connection:
            connection.execute(
                "INSERT INTO artifacts (run_id, step, file_type, file_path, digest, metadata)"
                " VALUES (%s, 'draft', 'markdown', %s, '00', '[1]')",
                [run, path],
            )
    file = back_up(tenant, tmp_path)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert report.missing_files == ["../../../../../etc/passwd", "storage/another/x"]
    [found] = backups_verify(file=file)
    assert ": 2 of 4 (" in found.problem and "Files that rows refer to are missing or changed" in found.problem


@pytest.fixture
def impatient(settings: Settings) -> None:
    settings.RESTORE_STALL_S = 2.0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "tail",
    [
        "SELECT pg_sleep(100000);\n",
        "DO $$ BEGIN LOOP PERFORM pg_sleep(0.1); END LOOP; END $$;\n",
        "BEGIN; LOCK TABLE public.runs; PREPARE TRANSACTION 'held'; SELECT count(*) FROM public.runs;\n",
    ],
    ids=["sleep", "loop", "own prepared transaction"],
)
def test_a_dump_that_stands_still_is_ended(tenant: Tenant, tmp_path: Path, tail: str) -> None:
    said = told("restore", tenant, tmp_path, tail)
    assert "Loading the dump made no progress for 2 s" in said
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []
    assert tenant_recover() == []


def test_a_dump_that_fills_the_disk_is_ended(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.restore.load_limits.SMALLEST_LIMIT_BYTES", 32 * 2**20)
    # Each row is written as it is made: numbers in FROM would all be made first, which fills temporary files instead.
    tail = "CREATE TABLE public.big AS SELECT repeat(md5(generate_series(1, 1000000000)::text), 30);\n"
    said = told("restore", tenant, tmp_path, tail)
    assert re.search(r"The loaded dump takes up more than \d+ MiB on disk", said)
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []


@pytest.mark.usefixtures("impatient")
def test_a_program_that_is_frozen_is_ended(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = LoadGuard.watch

    def freeze(guard: LoadGuard, process: subprocess.Popen[bytes]) -> None:
        watch(guard, process)
        process.send_signal(signal.SIGSTOP)

    monkeypatch.setattr(LoadGuard, "watch", freeze)
    assert "Loading the dump made no progress for 2 s" in told("restore", tenant, tmp_path, "")


def test_recover_cleans_up_after_a_killed_restore(tenant: Tenant, tmp_path: Path, canary: Canary) -> None:
    """The restore is killed while it loads; after that, the test does what the dump could have done."""
    file = plain_dump(tenant, tmp_path, tail=canary.case("prepared"))
    die_at("load", "tenant_restore", tenant_id=tenant.id, backup_file=str(file))
    row = Restore.objects.get(tenant_id=tenant.id)
    assert tenant.server is not None
    with ServerSession(tenant.server, database_prefix(), "test") as server_session:
        scratch = Scratch(server_session, row.scratch, row.scratch)
        scratch.create()
        with psycopg.connect(scratch.url, autocommit=True) as connection:
            connection.execute(canary.case("prepared").encode())
            # And everything that could keep others out.
            name = sql.Identifier(row.scratch)
            connection.execute(sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE true CONNECTION LIMIT 0").format(name))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {0} FROM PUBLIC, {0}").format(name))
            connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = 1").format(name))
            connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    assert [one.outcome for one in tenant_recover()] == ["undone"]
    assert scratch_things(tenant.server.admin_url) == []
    with psycopg.connect(tenant.server.admin_url) as connection:
        assert connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall() == []


@pytest.fixture
def mallory(tenant: Tenant, canary: Canary) -> Iterator[str]:
    """Create someone else's database on the same server, with a view that claims to be a tenant's; yield its URL."""
    assert tenant.server is not None
    admin = tenant.server.admin_url
    own = re.sub(r"//.*@", "//mallory:secret@", admin.rpartition("/")[0]) + "/mallory"
    with psycopg.connect(superuser_url(admin), autocommit=True) as connection:
        connection.execute("CREATE ROLE mallory LOGIN PASSWORD 'secret'")
        connection.execute("CREATE DATABASE mallory OWNER mallory")
        with psycopg.connect(own, autocommit=True) as theirs:
            theirs.execute(canary.case("other-database").encode())
        yield own
        connection.execute("DROP DATABASE mallory WITH (FORCE)")
        connection.execute("DROP ROLE mallory")


@pytest.mark.usefixtures("forgotten")
def test_foreign_database_is_named_and_never_opened(tenant: Tenant, mallory: str, canary: Canary) -> None:
    tenant_delete(tenant_id=tenant.id)
    server = DatabaseServer.objects.get(pk="main")
    with psycopg.connect(server.admin_url, autocommit=True) as connection:

        def sessions() -> int:
            query = "SELECT sessions FROM pg_stat_database WHERE datname = 'mallory'"
            return int(connection.execute(query).fetchall()[0][0])

        # A session is counted when it has ended.
        assert process.wait_until(lambda: sessions() >= 1, 30)
        before = sessions()
        [check] = erasures_verify(tenant_id=tenant.id)
        psycopg.connect(mallory).close()
        assert process.wait_until(lambda: sessions() > before, 30)
        assert sessions() == before + 1
    assert check.problems == [] and not canary.file.exists()
    [said] = [one for one in check.unseen if "server main" in one]
    assert "mallory" in said


@pytest.mark.usefixtures("forgotten")
def test_a_copy_by_hand_among_our_own_databases_is_found(make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    server = DatabaseServer.objects.get(pk="main")
    with ServerSession(server, database_prefix(), "test") as server_session:
        server_session.create_empty_database("copied_by_hand")
        try:
            with psycopg.connect(owner_url(server, "copied_by_hand"), autocommit=True) as connection:
                connection.execute("CREATE TABLE public.tenant_identity (tenant_id text, identity uuid)")
                connection.execute("INSERT INTO public.tenant_identity VALUES (%s, %s)", [tenant.id, tenant.identity])
            tenant_delete(tenant_id=tenant.id)
            [check] = erasures_verify(tenant_id=tenant.id)
            assert check.problems == ["Database copied_by_hand on server main has this tenant's identity."]
        finally:
            server_session.drop_database("copied_by_hand")
