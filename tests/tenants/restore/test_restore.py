"""Back up, destroy, restore and undo, with real dumps on a real server."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import psycopg
import pyrage
import pytest
from django.db import connections
from pytest_django import Settings

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from config.base.errors import shown_on_page
from config.stack.postgres import binaries_folder
from runs.models import Run, RunStatus, Step
from tenants.errors import (
    FleetBusy,
    RestoreRefused,
    RestoreUnfinished,
    TenantBusy,
    TenantError,
    TenantExists,
    TenantNotActive,
    TenantUnfinished,
)
from tenants.files import tenant_storage
from tenants.fleet.batch import fleet_lock
from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.status import tenant_statuses
from tenants.lifecycle.suspend import tenant_suspend
from tenants.management.commands.tenant_restore import Command
from tenants.models import Restore, Tenant, TenantOperation, TenantStatus
from tenants.operations import backup_lock, operation_begin, tenant_lock
from tenants.restore.restore import tenant_restore
from tenants.restore.undo import tenant_restore_undo
from tenants.routing.context import tenant_context
from tenants.schema.inspection import database_of
from tenants.schema.releases import release
from tenants.servers.programs import connection_arguments
from tenants.servers.session import owner_url
from tenants.transfer.clone import tenant_clone
from tenants.types import Progress
from tenants.unfinished import tenant_recover
from tests.support import preloaded, superuser
from tests.support.releases import NextRelease
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.conftest import AgeKey
from tests.tenants.support.backups import back_up
from tests.tenants.support.filled import (
    add_run,
    as_superuser,
    destroy_rows,
    everything_of,
    files_of,
    rows_of,
    without_audit,
)
from tests.tenants.support.fleets import as_owner
from tests.tenants.support.restores import chain_is_whole, scratch_things


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3_place: str) -> str:
    return s3_place if request.param == "s3" else str(tmp_path / "backups")


@pytest.mark.parametrize("dump_format", ["custom", "plain"])
@pytest.mark.parametrize("sealed", ["plain text", "encrypted"])
def test_restore_and_undo_swap_the_exact_states(
    tenant: Tenant, place: str, age_key: AgeKey, dump_format: str, sealed: str
) -> None:
    for _ in range(3):
        add_run(tenant)
    before = everything_of(tenant)
    audit_before = rows_of(tenant)["audit_logs"]
    recipient = age_key.recipient if sealed == "encrypted" else ""
    file = back_up(tenant, place, dump_format=dump_format, recipient=recipient)
    destroy_rows(tenant)
    destroyed = everything_of(tenant)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file, age_identity_file=age_key.age_identity_file)
    assert without_audit(everything_of(tenant)) == without_audit(before)
    # The log is the backup's, continued by the one entry that binds it to the replaced one.
    assert set(audit_before) < set(rows_of(tenant)["audit_logs"])
    assert len(rows_of(tenant)["audit_logs"]) == len(audit_before) + 1
    assert chain_is_whole(tenant)
    assert sorted(report.returned_runs) == sorted(str(pk) for pk in run_ids(tenant))
    assert tenant_restore_undo(tenant_id=tenant.id).missing_files == []
    assert without_audit(everything_of(tenant)) == without_audit(destroyed)
    tenant_restore_undo(tenant_id=tenant.id)
    assert without_audit(everything_of(tenant)) == without_audit(before)
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []


def run_ids(tenant: Tenant) -> list[object]:
    with tenant_context(tenant) as alias:
        return list(Run.objects.using(alias).values_list("pk", flat=True))


def test_both_logs_bind_the_replaced_chain_to_the_restored_one(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    add_run(tenant)
    with as_owner(tenant) as connection:
        replaced = connection.execute("SELECT sequence, hash FROM audit_chain_heads").fetchone()
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    with tenant_context(tenant) as alias:
        entry = AuditLog.objects.using(alias).get(action="tenant.restore")
    assert replaced is not None and entry.details is not None
    assert entry.details["replaced"] == {"sequence": replaced[0], "hash": replaced[1]}
    assert entry.details["restored"] == {"sequence": 1, "hash": entry.previous_hash}
    entries = ControlAuditLog.objects.filter(details__operation=str(report.operation_id)).order_by("id")
    assert [one.action for one in entries] == ["tenant.restore", "tenant.restore.complete"]
    assert entries[1].details is not None and entries[1].details["replaced"] == entry.details["replaced"]
    assert report.lost_runs and report.orphans and report.unavailable_ms is not None


def test_a_warm_connection_of_another_process_never_reads_the_replaced_database(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    program = (
        "import django, sys; django.setup()\n"
        "from tenants.routing.context import tenant_context\n"
        "from runs.models import Run\n"
        "def count():\n"
        "    with tenant_context(sys.argv[1]) as alias: return Run.objects.using(alias).count()\n"
        "print(count(), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(count(), flush=True)\n"
    )
    add_run(tenant)
    with preloaded.Popen(
        [sys.executable, "-c", program, tenant.id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "1\n"
        tenant_restore(tenant_id=tenant.id, backup_file=file)
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "0\n"


def test_files_of_the_backup_are_brought_back_and_newer_ones_are_listed(tenant: Tenant, tmp_path: Path) -> None:
    kept, lost = add_run(tenant), add_run(tenant, text="b")
    before = files_of(tenant)
    file = back_up(tenant, tmp_path, with_storage=True)
    tenant_storage.remove([one.path for one in tenant_storage.objects_of(tenant.id) if str(lost) in one.path])
    [changed] = [one.path for one in tenant_storage.objects_of(tenant.id) if f"{kept}/draft/output" in one.path]
    anew = b"the step was run again after the backup"
    tenant_storage.write_all({changed: anew})
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run_id=kept).update(output_digest=hashlib.sha256(anew).hexdigest())
    newer = add_run(tenant)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert len(report.restored_files) == 3 and report.missing_files == []
    assert report.lost_runs == [str(newer)] and all(str(newer) in path for path in report.orphans)
    orphans = set(report.orphans)
    assert {path: digest for path, digest in files_of(tenant).items() if path not in orphans} == before
    # The replaced file was set aside, and comes back with the rows that refer to it.
    report = tenant_restore_undo(tenant_id=tenant.id)
    assert report.restored_files == [changed] and report.missing_files == []
    assert tenant_storage.read(changed) == anew


def test_long_lists_are_cut_but_counted(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = back_up(tenant, tmp_path)
    for _run in range(12):
        add_run(tenant)
    monkeypatch.setattr("tenants.restore.reconcile.NAMED", 11)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert (len(report.lost_runs), report.counts["lost_runs"], report.counts["missing_files"]) == (11, 12, 0)
    told = StringIO()
    Command(stdout=told).present(asdict(report))
    assert "Lost runs (newer than the restored state): 12\n" in told.getvalue()
    assert "  and 2 more\n" in told.getvalue()


def test_running_runs_block_a_restore_unless_stopped(tenant: Tenant, tmp_path: Path) -> None:
    run = add_run(tenant, status=RunStatus.RUNNING)
    with tenant_context(tenant) as alias:
        Step.objects.using(alias).filter(run_id=run).update(lease_expires_at="2999-01-01T00:00Z")
    file = back_up(tenant, tmp_path)
    with pytest.raises(RestoreRefused, match=f"Runs are still in progress: {run}. Wait for them, or pass --stop-runs"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    with shown_on_page(), pytest.raises(RestoreRefused, match="switch on “Continue even if runs are in progress”"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file, stop_runs=True)
    assert report.failed_runs == [str(run)]
    with tenant_context(tenant) as alias:
        step = Step.objects.using(alias).get(run_id=run)
        assert Run.objects.using(alias).get(pk=run).status == RunStatus.FAILED
        assert step.error_message == "The tenant was restored to a state in which this run had not finished."
        # A claim in the replaced database is not valid here.
        assert step.lease_token > 1_000_000


def test_a_suspended_tenant_stays_suspended(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    tenant_suspend(tenant_id=tenant.id)
    tenant_restore(tenant_id=tenant.id, backup_file=file)
    tenant.refresh_from_db()
    assert (tenant.status, tenant.is_active) == (TenantStatus.SUSPENDED, False)


def test_a_database_that_is_gone_comes_back_with_its_role(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    before = everything_of(tenant)
    file = back_up(tenant, tmp_path)
    name = database_of(tenant)
    assert tenant.server is not None
    with psycopg.connect(superuser_url(tenant.server.admin_url), autocommit=True) as server:
        server.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))
        server.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(name)))
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert report.kept_until is None
    assert without_audit(everything_of(tenant)) == without_audit(before)
    assert len(run_ids(tenant)) == 1
    with pytest.raises(RestoreRefused, match="There is no restore to undo: no replaced database is kept"):
        tenant_restore_undo(tenant_id=tenant.id)


@pytest.mark.usefixtures("empty_fleet")
def test_an_older_backup_is_migrated_to_the_fleets_version_and_a_newer_one_refused(
    make_tenant: MakeTenant, tmp_path: Path, next_release: NextRelease
) -> None:
    tenant = make_tenant()
    add_run(tenant)
    older = back_up(tenant, tmp_path)
    next_release.add("0003_plain")
    with next_release.active():
        assert tenant_migrate().outcome == "completed"
        newer = back_up(tenant, tmp_path)
        row = Tenant.objects.filter(pk=tenant.pk)
        row.update(schema_version=release().version.replace("runs.0003_plain", "runs.0004_unknown"))
        with pytest.raises(RestoreRefused, match=r"The tenant's schema version \(.*\) is ahead of this code"):
            tenant_restore(tenant_id=tenant.id, backup_file=older)
        row.update(schema_version=release().version)
        report = tenant_restore(tenant_id=tenant.id, backup_file=older)
        assert report.migrations == ["runs.0003_plain"]
        tenant.refresh_from_db()
        assert tenant.schema_version == release().version
        assert chain_is_whole(tenant)
    live = everything_of(tenant)
    with pytest.raises(RestoreRefused, match=r"is ahead of this code, which does not know runs\.0003_plain"):
        tenant_restore(tenant_id=tenant.id, backup_file=newer)
    assert everything_of(tenant) == live


@pytest.mark.usefixtures("empty_fleet")
def test_an_undo_waits_until_the_fleet_has_this_codes_version(
    make_tenant: MakeTenant, tmp_path: Path, next_release: NextRelease
) -> None:
    """The replaced database would otherwise be migrated past the other tenants."""
    tenant = make_tenant()
    tenant_restore(tenant_id=tenant.id, backup_file=back_up(tenant, tmp_path))
    next_release.add("0003_plain")
    with next_release.active():
        assert tenant_migrate().outcome == "completed"
    next_release.add(
        "0004_more", '    operations = [migrations.AddField("Note", "author", models.TextField(null=True))]'
    )
    with next_release.active():
        live = everything_of(tenant)
        with pytest.raises(RestoreRefused, match="which is behind this code") as refused:
            tenant_restore_undo(tenant_id=tenant.id)
        assert refused.value.code == "fleet_outdated"
        assert everything_of(tenant) == live
        assert tenant_migrate().outcome == "completed"
        assert tenant_restore_undo(tenant_id=tenant.id).migrations == ["runs.0003_plain", "runs.0004_more"]
        tenant.refresh_from_db()
        assert tenant.schema_version == release().version


LOOKS_LIKE_COMMANDS = r"""it's $$ and:
\! touch canary
\restrict abc
COPY public.runs (id) FROM stdin;
GRANT SELECT ON public.runs TO PUBLIC;
ALTER TABLE public.runs OWNER TO somebody;
\.
"""


def test_foreign_dump_without_manifest_is_restored(tenant: Tenant, tmp_path: Path) -> None:
    """As in the specification: what pg_dump writes without our options, owners and grants included."""
    add_run(tenant)
    before = everything_of(tenant)
    assert tenant.server is not None
    arguments, environment = connection_arguments(
        superuser_url(tenant.server.admin_url, database_of(tenant)), application=superuser.APPLICATION
    )
    for name, options in (("own.sql", []), ("own.dump", ["-Fc"])):
        file = tmp_path / name
        with file.open("wb") as target:
            command: list[str | Path] = [binaries_folder() / "pg_dump", *options, *arguments]
            subprocess.run(command, env=environment, stdout=target, check=True)
        destroy_rows(tenant)
        tenant_restore(tenant_id=tenant.id, backup_file=str(file))
        assert without_audit(everything_of(tenant)) == without_audit(before)


def test_text_that_looks_like_commands_comes_back_as_it_was(tenant: Tenant, tmp_path: Path) -> None:
    """With --inserts, quoted text spans several lines; COPY would have escaped it."""
    add_run(tenant, text=LOOKS_LIKE_COMMANDS)
    before = everything_of(tenant)
    assert tenant.server is not None
    arguments, environment = connection_arguments(
        superuser_url(tenant.server.admin_url, database_of(tenant)), application=superuser.APPLICATION
    )
    file = tmp_path / "own.sql"
    with file.open("wb") as target:
        command: list[str | Path] = [binaries_folder() / "pg_dump", "--inserts", *arguments]
        subprocess.run(command, env=environment, stdout=target, check=True)
    assert LOOKS_LIKE_COMMANDS.replace("'", "''") in file.read_text()
    destroy_rows(tenant)
    tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    assert without_audit(everything_of(tenant)) == without_audit(before)


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    middle = len(content) // 2
    spoiled = {
        "truncated": content[:middle],
        "bit-flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
        "wrong format": gzip.compress(content),
        "text": b"hello\n" * 100,
    }[how]
    file.write_bytes(spoiled)


@pytest.fixture(params=["with manifest", "without manifest"])
def has_manifest(request: pytest.FixtureRequest) -> bool:
    return str(request.param) == "with manifest"


@pytest.mark.parametrize(
    "damage",
    [
        ("custom", "truncated", "but its manifest says|pg_restore failed"),
        ("custom", "bit-flipped", "differs from the manifest's|pg_restore failed"),
        ("custom", "empty", "is empty"),
        ("custom", "wrong format", "but its manifest says|not a pg_dump in the custom or plain format"),
        (
            "plain",
            "truncated",
            "but its manifest says|psql failed|in the middle|does not contain a tenant's|differs from what its",
        ),
        ("plain", "text", "but its manifest says|not a pg_dump in the custom or plain format"),
    ],
    ids=lambda damage: " ".join(damage[:2]),
)
def test_a_damaged_backup_is_refused_and_the_live_database_untouched(
    tenant: Tenant, tmp_path: Path, has_manifest: bool, damage: tuple[str, str, str]
) -> None:
    dump_format, how, reason = damage
    add_run(tenant)
    file = Path(back_up(tenant, tmp_path, dump_format=dump_format))
    if not has_manifest:
        Path(f"{file}.json").unlink()
    live = everything_of(tenant)
    spoil(file, how)
    with pytest.raises(RestoreRefused, match=f"Tenant {tenant.id} was not restored. .*({reason})"):
        tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    assert everything_of(tenant) == live
    assert tenant.server is not None and scratch_things(tenant.server.admin_url) == []
    assert Tenant.objects.get(pk=tenant.pk).status == TenantStatus.ACTIVE


def test_a_backup_of_another_tenant_is_refused(tenant_pair: tuple[Tenant, Tenant], tmp_path: Path) -> None:
    one, other = tenant_pair
    file = back_up(other, tmp_path)
    with pytest.raises(RestoreRefused, match=f"The backup belongs to tenant {other.id}"):
        tenant_restore(tenant_id=one.id, backup_file=file)
    # Even if only the rows say so.
    renamed = Path(file).rename(tmp_path / "renamed.dump")
    with pytest.raises(RestoreRefused, match=f"The dump belongs to tenant {other.id}"):
        tenant_restore(tenant_id=one.id, backup_file=str(renamed))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": {"runs": 7}}, "The manifest does not list table artifacts"),
        ({"audit": {"sequence": 9, "hash": "0" * 64}}, "The restored audit log does not end where the manifest says"),
        ({"format_version": 2}, "is not valid: format_version"),
        ({"server_version": 99}, "The dump was made on PostgreSQL 99"),
        ({"file": {"name": "x", "sha256": "0" * 64, "size_bytes": -1}}, "is not valid: file.size_bytes"),
    ],
)
def test_a_manifest_that_does_not_match_is_refused(
    tenant: Tenant, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path)
    manifest = Path(f"{file}.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    live = everything_of(tenant)
    with pytest.raises(RestoreRefused, match=reason):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert everything_of(tenant) == live


def test_a_manifest_with_another_digest_than_the_catalogue_is_refused(tenant: Tenant, tmp_path: Path) -> None:
    file = back_up(tenant, tmp_path)
    manifest = Path(f"{file}.json")
    document = json.loads(manifest.read_text())
    document["file"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(document))
    with pytest.raises(RestoreRefused, match="does not match the catalogue"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)


def test_an_encrypted_backup_needs_its_own_identity(tenant: Tenant, tmp_path: Path, age_key: AgeKey) -> None:
    file = back_up(tenant, tmp_path, recipient=age_key.recipient)
    assert b"tenant_identity" not in Path(file).read_bytes()
    with pytest.raises(RestoreRefused, match="no age identity was given to decrypt it"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    other = tmp_path / "other.key"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(RestoreRefused, match="The file cannot be decrypted"):
        tenant_restore(tenant_id=tenant.id, backup_file=file, age_identity_file=str(other))
    with pytest.raises(RestoreRefused, match=r"identity file .* cannot be used: No such file"):
        tenant_restore(tenant_id=tenant.id, backup_file=file, age_identity_file=str(tmp_path / "none"))


# Refused by psql itself.
RESTRICTED = "psql failed: .*backslash commands are restricted"
HOSTILE = r"""
CREATE FUNCTION public.harm() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'RESET ROLE';
    EXECUTE format('ALTER ROLE %I SUPERUSER', current_user);
    RETURN 'harm';
END $$;
SELECT public.harm();
"""


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        ("\\! touch {canary}\n", RESTRICTED),
        # None of these begins a text that hides what follows.
        ("SELECT 'costs $$' AS x;\n\\! touch {canary}\n", RESTRICTED),
        ("SELECT 1 \\! touch {canary}\n", RESTRICTED),
        ("\\unrestrict abc123\n\\copy (SELECT 1) TO PROGRAM 'touch {canary}'\n", RESTRICTED),
        ("COPY (SELECT 1) TO PROGRAM 'touch {canary}';\n", "psql failed: .*permission denied"),
        ("DROP DATABASE {live};\n", "psql failed: .*must be owner"),
        (HOSTILE, "psql failed: .*permission denied"),
        (
            "CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " AS 'BEGIN RETURN NEW; END';\n"
            "CREATE TRIGGER later AFTER INSERT ON public.runs FOR EACH ROW EXECUTE FUNCTION public.later();\n",
            "The dump's schema differs from what its migrations create: function later",
        ),
        (
            "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);\n",
            r"The dump contains objects that no migration creates: operator \(1\)",
        ),
        ("SELECT lo_create(0);\n", "psql failed: .*permission denied for function lo_create"),
    ],
    ids=[
        *("psql command", "behind a quoted $$", "behind a statement", "unlocked by itself", "program"),
        *("drop", "role", "trigger", "operator", "large object"),
    ],
)
def test_what_a_dump_does_beyond_its_own_database_is_refused(
    tenant: Tenant, tmp_path: Path, added: str, reason: str
) -> None:
    """A dump is code, and may come from anyone."""
    file = Path(back_up(tenant, tmp_path, dump_format="plain")).rename(tmp_path / "from somebody.sql")
    canary = tmp_path / "canary"
    text = added.replace("{canary}", str(canary)).replace("{live}", database_of(tenant))
    file.write_text(file.read_text() + text)
    live = everything_of(tenant)
    with pytest.raises(RestoreRefused, match=reason):
        tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    assert everything_of(tenant) == live and not canary.exists()


def test_what_a_dump_does_to_its_own_database_does_not_survive(
    tenant_pair: tuple[Tenant, Tenant], tmp_path: Path
) -> None:
    """As the scratch database's owner, the guest may let others in; none of that outlasts its ownership."""
    tenant, other = tenant_pair
    file = Path(back_up(tenant, tmp_path, dump_format="plain")).rename(tmp_path / "from somebody.sql")
    file.write_text(
        file.read_text()
        + "DO $$ BEGIN\n"
        + "EXECUTE format('GRANT ALL ON DATABASE %I TO seo_gen_tenant', current_database());\n"
        + "EXECUTE format('GRANT ALL ON DATABASE %I TO PUBLIC', current_database());\n"
        + "EXECUTE format('ALTER DATABASE %I SET lock_timeout = 1', current_database());\n"
        + "EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 1', current_database());\n"
        + "END $$;\n"
    )
    tenant_restore(tenant_id=tenant.id, backup_file=str(file))
    assert [status.problem for status in tenant_statuses(tenant_id=tenant.id, check=True)] == [None]
    url = other.database_url.rpartition("/")[0] + f"/{database_of(tenant)}"
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(url)
    with as_superuser(tenant) as connection:
        query = """
            SELECT datconnlimit, (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = d.oid)
              FROM pg_database d WHERE datname = current_database()
        """
        assert connection.execute(query).fetchall() == [(-1, 0)]


def test_waiting_run_continues_unless_it_already_did(tenant: Tenant, tmp_path: Path) -> None:
    waits, went_on = (add_run(tenant, status=RunStatus.PENDING) for _ in range(2))
    file = back_up(tenant, tmp_path)
    with tenant_context(tenant) as alias:
        Run.objects.using(alias).filter(pk=went_on).update(status=RunStatus.COMPLETED)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert report.failed_runs == [str(went_on)] == report.changed_runs
    tokens = set()
    for _ in range(2):
        with tenant_context(tenant) as alias:
            assert Run.objects.using(alias).get(pk=waits).status == RunStatus.PENDING
            tokens.add(Step.objects.using(alias).get(run_id=waits).lease_token)
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    # The same backup, and yet no claim in one database is valid in the other.
    assert tokens == {1_000_001, 2_000_001}


def test_drift_recorded_in_our_own_manifest_is_restored_and_reported(tenant: Tenant, tmp_path: Path) -> None:
    with as_owner(tenant) as connection:
        connection.execute("CREATE INDEX by_hand ON runs (updated_at)")
    file = back_up(tenant, tmp_path)
    report = tenant_restore(tenant_id=tenant.id, backup_file=file)
    assert report.drift == ["index by_hand is unexpected"]
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    shutil.copy(file, copied)
    shutil.copy(f"{file}.json", copied)
    with pytest.raises(
        RestoreRefused, match="The dump's schema differs from what its migrations create: index by_hand"
    ):
        tenant_restore(tenant_id=tenant.id, backup_file=str(copied / Path(file).name))


def test_a_broken_audit_chain_is_refused_by_its_entry(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    add_run(tenant)
    with as_superuser(tenant) as connection:
        connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit_logs SET user_id = 'somebody else' WHERE sequence = 2")
        connection.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_modification")
        connection.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER prevent_audit_log_truncation")
        connection.execute("ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER chain_audit_logs")
    file = back_up(tenant, tmp_path)
    with pytest.raises(RestoreRefused, match="The restored audit log is broken at entry 2"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)


@pytest.mark.parametrize(
    ("lock", "busy"),
    [
        (lambda tenant: fleet_lock(), FleetBusy),
        (lambda tenant: tenant_lock(tenant.id), TenantBusy),
        (lambda tenant: backup_lock(tenant.id), TenantBusy),
    ],
    ids=["migration", "restore", "backup"],
)
def test_it_is_refused_while_another_process_works_on_the_tenant_or_the_fleet(
    tenant: Tenant, tmp_path: Path, lock: Callable[[Tenant], AbstractContextManager[None]], busy: type[TenantError]
) -> None:
    file = back_up(tenant, tmp_path)
    live = everything_of(tenant)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock(tenant):
            held.set()
            over.wait()
        connections["default"].close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        with pytest.raises(busy, match=r"[Aa]nother process is"):
            tenant_restore(tenant_id=tenant.id, backup_file=file)
    finally:
        over.set()
        holder.join()
    assert everything_of(tenant) == live


def test_a_copy_has_an_id_an_identity_and_files_of_its_own(tenant: Tenant, tmp_path: Path) -> None:
    add_run(tenant)
    add_run(tenant, status=RunStatus.PENDING)
    file = back_up(tenant, tmp_path, with_storage=True)
    tenant_storage.remove([one.path for one in tenant_storage.objects_of(tenant.id)])
    live = everything_of(tenant)
    report = tenant_clone(tenant_id=tenant.id, new_id=f"{tenant.id}-copy", backup_file=file)
    copy = Tenant.objects.select_related("server").get(pk=report.tenant_id)
    assert copy.identity != tenant.identity and chain_is_whole(copy)
    assert report.missing_files == [] and len(files_of(copy)) == 4
    with tenant_context(copy) as alias:
        # Nothing continues by itself in a copy.
        assert set(Run.objects.using(alias).values_list("status", flat=True)) == {"completed", "failed"}
    assert everything_of(tenant) == live
    with pytest.raises(TenantExists, match="already exists"):
        tenant_clone(tenant_id=tenant.id, new_id=copy.id, backup_file=file)
    remove(copy)


def test_it_is_refused_while_something_else_is_unfinished_and_for_an_erased_tenant(
    tenant: Tenant, tmp_path: Path
) -> None:
    file = back_up(tenant, tmp_path)
    operation = operation_begin(tenant_id=tenant.id, kind="restore")
    with pytest.raises(TenantUnfinished, match="run `seo-gen tenant recover` to finish or undo it"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    operation.delete()
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.DELETED)
    with pytest.raises(TenantNotActive, match=f"The status of tenant {tenant.id} is deleted"):
        tenant_restore(tenant_id=tenant.id, backup_file=file)
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)
    with pytest.raises(TenantError, match="does not exist"):
        tenant_restore(tenant_id=tenant.id, backup_file=f"{file}.nothing")
    assert [one.kind for one in TenantOperation.objects.filter(tenant_id=tenant.id)] == ["create"]
    assert not Restore.objects.filter(tenant_id=tenant.id).exists()


@pytest.mark.parametrize(("step", "error"), [("settle", RestoreRefused), ("reconcile", RestoreUnfinished)])
def test_a_lock_is_named_before_and_after_the_swap(
    tenant: Tenant, tmp_path: Path, settings: Settings, step: str, error: type[TenantError]
) -> None:
    add_run(tenant)
    file = back_up(tenant, tmp_path)
    before = everything_of(tenant)
    settings.DATABASE_LIMITS = replace(settings.DATABASE_LIMITS, lock_timeout_s=0.2)
    with ExitStack() as stack:

        def lock(progress: Progress) -> None:
            if progress.step == step:
                row = Restore.objects.get(operation__tenant_id=tenant.id)
                name = row.scratch if step == "settle" else row.live
                holder = psycopg.connect(owner_url(tenant.require_server(), name))
                stack.callback(holder.close)
                holder.execute("LOCK TABLE artifacts, runs")

        with pytest.raises(error, match=f"Tenant {tenant.id} was .*A lock was not granted within 0.2 s"):
            tenant_restore(tenant_id=tenant.id, backup_file=file, on_progress=lock)
    if error is RestoreRefused:
        assert everything_of(tenant) == before and tenant_recover() == []
        assert "A lock was not granted" in TenantOperation.objects.get(tenant_id=tenant.id, kind="restore").error
    else:
        assert [one.outcome for one in tenant_recover()] == ["finished"]
