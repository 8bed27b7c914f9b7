"""Attacks on a log: the database refuses them or `audit verify` reports them. docs/audit.md lists them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from audit.control.models import AuditAnchor
from audit.verification.anchor import audit_anchor
from audit.verification.log_check import Kind, LogReport
from audit.verification.verify import audit_verify
from tenants.models import Tenant, TenantStatus, database_prefix
from tenants.routing.pool import pool
from tenants.schema.inspection import database_of
from tests.audit.attacks import Victim, number, put_back
from tests.audit.conftest import Log
from tests.support.superuser import superuser_url
from tests.support.tenant_fixtures import MakeTenant


@pytest.fixture(autouse=True)
def _as_before(control_log: Log) -> Iterator[None]:
    with put_back(control_log):
        yield


@pytest.fixture
def victim(log: Log, tenant: Tenant) -> Victim:
    """A log of at least 15 entries, with at least two anchors; the newest two are at least three entries apart."""
    victim = Victim(log, tenant)
    victim.append(12)
    audit_anchor()
    victim.append(3)
    audit_anchor()
    report = victim.report()
    assert report.problems == [] and report.anchors >= 2
    return victim


def kinds(report: LogReport) -> list[tuple[Kind, int | None]]:
    """Return (kind, sequence number) of each problem, except problems of the anchors and of the ledger of erasures."""
    return [(one.kind, one.sequence) for one in report.problems if one.kind not in (Kind.ANCHOR, Kind.LEDGER)]


def anchored(victim: Victim) -> list[int]:
    """Return the sequence numbers at which the log was anchored, newest first."""
    identity = None if victim.is_control else victim.tenant.identity
    return list(AuditAnchor.objects.filter(identity=identity).order_by("-id").values_list("sequence", flat=True))


# -- As the application's role -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["owner", "superuser", "other"])
def test_the_application_cannot_become_another_role(log: Log, tenant_pair: tuple[Tenant, Tenant], role: str) -> None:
    prefix = "seo_gen_control" if log.table == "control_audit_logs" else database_prefix()
    server = tenant_pair[0].server
    assert server is not None
    names = {
        "owner": f"{prefix}_owner",
        "superuser": "postgres",
        "other": database_of(tenant_pair[1]),
    }
    with log.as_app() as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(names[role])))


def test_the_group_role_has_no_extra_privileges(tenant_log: Log) -> None:
    with tenant_log.as_app() as app:
        app.execute(tenant_log.insert)
        app.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(f"{database_prefix()}_tenant")))
        for statement in ("UPDATE {}", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"):
            words = statement.format("audit_logs") + (" SET action = 'x'" if "UPDATE" in statement else "")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
                app.execute(words)
        app.rollback()


# -- As the owner or a superuser, with the triggers off ----------------------------------------------------------


def test_an_edited_entry_is_reported(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.table} SET action = 'forged' WHERE sequence = 7")
    report = victim.report()
    assert kinds(report) == [(Kind.CHANGED, 7)]
    assert report.problems[0].message == "Entry 7 does not match its hash."
    assert report.last_good_anchor is None or report.last_good_anchor.sequence < 7


@pytest.mark.parametrize(
    "change",
    [
        *("user_id = 'x'", "resource_type = 'x'", "resource_id = 'x'", "details = '{}'", "operation_id = 'x'"),
        *("created_at = created_at - interval '1 microsecond'", "entry_hash = repeat('0', 64)"),
    ],
)
def test_an_edit_of_any_column_is_reported(victim: Victim, change: str) -> None:
    last = anchored(victim)[0]
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.table} SET {change} WHERE sequence = {last}")
    report = victim.report()
    assert kinds(report)[0] == (Kind.CHANGED, last)
    assert report.last_good_anchor is not None and report.last_good_anchor.sequence < last


def test_planted_functions_are_not_called(victim: Victim) -> None:
    """Plant a function that would be preferred to PostgreSQL's `convert_to(text, name)` if "public" were searched."""
    forged = """
        CREATE FUNCTION public.convert_to(text, text) RETURNS bytea LANGUAGE sql AS $$
            SELECT pg_catalog.convert_to(
                replace(replace($1, '6:forged', '{size}:{action}'), 'forged', '{action}'), 'UTF8'
            )
        $$
    """
    with victim.triggers_off() as superuser:
        [(action,)] = superuser.execute(f"SELECT action FROM {victim.log.table} WHERE sequence = 7").fetchall()
        superuser.execute(f"UPDATE {victim.log.table} SET action = 'forged' WHERE sequence = 7")
        superuser.execute(forged.replace("{size}", str(len(action))).replace("{action}", action))
    try:
        assert kinds(victim.report()) == [(Kind.CHANGED, 7)]
    finally:
        with victim.log.as_superuser() as superuser:
            superuser.execute("DROP FUNCTION public.convert_to(text, text)")


def test_an_edited_entry_with_a_new_hash_breaks_the_chain(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.table} SET action = 'forged' WHERE sequence = 7")
        later = superuser.execute(
            f"SELECT sequence, previous_hash, entry_hash FROM {victim.log.table} WHERE sequence > 7"
        ).fetchall()
        heads = superuser.execute(f"SELECT sequence, hash FROM {victim.log.head}").fetchall()
        victim.recompute(superuser, 7)
        for sequence, previous_hash, entry_hash in later:
            superuser.execute(
                f"UPDATE {victim.log.table} SET previous_hash = %s, entry_hash = %s WHERE sequence = %s",
                (previous_hash, entry_hash, sequence),
            )
        superuser.execute(f"UPDATE {victim.log.head} SET sequence = %s, hash = %s", heads[0])
    assert kinds(victim.report()) == [(Kind.UNLINKED, 7)]


def test_a_deleted_entry_is_reported(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"DELETE FROM {victim.log.table} WHERE sequence IN (5, 6)")
    report = victim.report()
    assert kinds(report) == [(Kind.MISSING, 5)]
    assert report.problems[0].message == "Entries 5 to 6 are missing."


def test_an_inserted_entry_is_reported(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        last = number(superuser, f"SELECT max(sequence) FROM {victim.log.table}")
        superuser.execute(
            f"INSERT INTO {victim.log.table} (id, user_id, action, resource_type, resource_id, sequence, previous_hash,"
            f" entry_hash) SELECT id + 1, 'a', 'b', 'c', 'd', sequence + 1, entry_hash, entry_hash"
            f" FROM {victim.log.table} WHERE sequence = {last}"
        )
    assert (Kind.CHANGED, last + 1) in kinds(victim.report())


def test_a_duplicate_entry_is_reported(tenant: Tenant, tenant_log: Log) -> None:
    victim = Victim(tenant_log, tenant)
    victim.append(5)
    with victim.triggers_off() as superuser:
        superuser.execute("ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_sequence_key")
        superuser.execute("CREATE TEMPORARY TABLE twin AS SELECT * FROM audit_logs WHERE sequence = 3")
        superuser.execute("UPDATE twin SET id = 1000")
        superuser.execute("INSERT INTO audit_logs TABLE twin")
    assert kinds(victim.report()) == [(Kind.GUARD, None), (Kind.INSERTED, 3)]


def test_another_tenants_log_is_reported(tenant: Tenant, tenant_log: Log, make_tenant: MakeTenant) -> None:
    """The log is consistent, head included, but its chain starts from another tenant's identity."""
    victim, other = Victim(tenant_log, tenant), make_tenant()
    url = urlsplit(tenant_log.superuser_url)._replace(path=f"/{database_of(other)}").geturl()
    with psycopg.connect(url) as source, victim.triggers_off() as superuser:
        for table in ("audit_logs", "audit_chain_heads"):
            superuser.execute(f"DELETE FROM {table}")
            with (
                source.cursor().copy(f"COPY {table} TO STDOUT") as out,
                superuser.cursor().copy(f"COPY {table} FROM STDIN") as into,
            ):
                for block in out:
                    into.write(block)
    assert kinds(victim.report()) == [(Kind.FOREIGN, 1)]


def test_the_head_shows_that_the_newest_entries_were_removed(victim: Victim) -> None:
    length = victim.length()
    with victim.triggers_off() as superuser:
        superuser.execute(f"DELETE FROM {victim.log.table} WHERE sequence > {length - 2}")
    assert kinds(victim.report()) == [(Kind.REMOVED, length - 1)]


def test_an_anchor_shows_that_newest_entries_were_removed_and_the_head_set_back(victim: Victim) -> None:
    newest, older = anchored(victim)[:2]
    with victim.triggers_off() as superuser:
        superuser.execute(f"DELETE FROM {victim.log.table} WHERE sequence >= {newest}")
        victim.recompute(superuser, newest)
    report = victim.report()
    assert kinds(report) == [(Kind.ROLLED_BACK, newest)]
    assert report.last_good_anchor is not None and report.last_good_anchor.sequence == older


@pytest.mark.parametrize("head", ["left", "set back"])
def test_an_emptied_log_is_reported(victim: Victim, head: str) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"DELETE FROM {victim.log.table}")
        if head == "set back":
            victim.recompute(superuser, 1)
    report = victim.report()
    assert kinds(report) == [(Kind.EMPTIED, 1)]
    assert report.last_good_anchor is None


def test_a_changed_head_is_reported(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.head} SET hash = repeat('f', 64)")
    assert kinds(victim.report()) == [(Kind.HEAD, None)]


def test_a_missing_head_is_reported(victim: Victim) -> None:
    with victim.triggers_off() as superuser:
        superuser.execute(f"DELETE FROM {victim.log.head}")
    assert kinds(victim.report())[0] == (Kind.HEAD, None)


def test_an_anchor_shows_a_recomputed_chain(victim: Victim) -> None:
    newest, older = anchored(victim)[:2]
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.table} SET user_id = 'nobody' WHERE sequence = {newest}")
        victim.recompute(superuser, newest)
    report = victim.report()
    assert kinds(report) == [(Kind.RECOMPUTED, older + 1)]
    assert report.last_good_anchor is not None and report.last_good_anchor.sequence == older


def test_a_change_made_without_guards_is_reported_after_they_return(victim: Victim) -> None:
    table = victim.log.table
    with victim.log.as_superuser() as superuser:
        [(definition,)] = superuser.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'prevent_audit_log_modification'"
            f" AND tgrelid = '{table}'::regclass"
        ).fetchall()
        superuser.execute(f"DROP TRIGGER prevent_audit_log_modification ON {table}")
        superuser.execute(f"UPDATE {table} SET details = '{{}}' WHERE sequence = 3")
        superuser.execute(definition)
        superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER prevent_audit_log_modification")
    assert kinds(victim.report()) == [(Kind.CHANGED, 3)]


def test_wrong_guards_in_an_anchor_are_reported_for_ever(tenant: Tenant, tenant_log: Log) -> None:
    victim = Victim(tenant_log, tenant)
    with victim.triggers_off() as superuser:
        superuser.commit()
        audit_anchor()
    report = victim.report()
    assert [one.kind for one in report.problems] == [Kind.GUARD]
    assert "The guards were wrong when an anchor was taken at " in report.problems[0].message


def test_a_disabled_trigger_is_reported(tenant: Tenant, tenant_log: Log) -> None:
    with tenant_log.as_superuser() as superuser:
        superuser.execute("ALTER TABLE audit_logs DISABLE TRIGGER prevent_audit_log_modification")
    [problem] = Victim(tenant_log, tenant).report().problems
    assert problem.kind == Kind.GUARD
    assert problem.message == "trigger prevent_audit_log_modification on audit_logs is disabled."


@pytest.mark.parametrize("table", ["audit_logs", "audit_chain_heads"])
def test_a_dropped_table_is_reported_and_the_others_are_verified(tenant: Tenant, tenant_log: Log, table: str) -> None:
    victim = Victim(tenant_log, tenant)
    with tenant_log.as_superuser() as superuser:
        superuser.execute(f"DROP TABLE {table}")
    report = victim.report()
    assert f"table {table} is missing." in [one.message for one in report.problems]
    assert report.problems[-1].kind == Kind.UNREADABLE
    assert [one for one in audit_anchor().problems if one.startswith(f"Tenant {tenant.id}: its audit log was not")]


def test_a_dropped_database_is_reported_and_the_others_are_verified(tenant: Tenant, tenant_log: Log) -> None:
    pool.discard(tenant.alias)
    _execute(tenant, "DROP DATABASE {live} WITH (FORCE)", "")
    assert kinds(Victim(tenant_log, tenant).report()) == [(Kind.UNREADABLE, None)]
    assert [one for one in audit_anchor().problems if one.startswith(f"Tenant {tenant.id}: its audit log was not")]


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_old_copy_of_the_database_is_reported(tenant: Tenant, tenant_log: Log, goes_on: bool) -> None:
    """Put a complete old state in place by hand: chain, head and guards agree."""
    victim = Victim(tenant_log, tenant)
    victim.append(4)
    audit_anchor()
    old = victim.length()
    with _copied(tenant) as copy:
        victim.append(4)
        audit_anchor()
        _swap_in(tenant, copy)
    if goes_on:
        with tenant_log.as_superuser() as superuser:
            for _ in range(6):
                superuser.execute(tenant_log.insert)
    report = victim.report()
    assert kinds(report) == [(Kind.ROLLED_BACK, old + 1)]
    assert report.last_good_anchor is not None and report.last_good_anchor.sequence == old


@contextmanager
def _copied(tenant: Tenant) -> Iterator[str]:
    """Yield the name of a copy of the tenant's database in its current state."""
    copy = f"{database_of(tenant)}_old"
    pool.discard(tenant.alias)
    _execute(tenant, "CREATE DATABASE {copy} OWNER {owner} TEMPLATE {live}", copy)
    try:
        yield copy
    finally:
        _execute(tenant, "DROP DATABASE IF EXISTS {copy}", copy)


def _swap_in(tenant: Tenant, copy: str) -> None:
    pool.discard(tenant.alias)
    _execute(tenant, "DROP DATABASE {live} WITH (FORCE)", copy)
    _execute(tenant, "ALTER DATABASE {copy} RENAME TO {live}", copy)


def _execute(tenant: Tenant, statement: LiteralString, copy: str) -> None:
    assert tenant.server is not None
    names = {
        "live": sql.Identifier(database_of(tenant)),
        "copy": sql.Identifier(copy),
        "owner": sql.Identifier(f"{database_prefix()}_owner"),
    }
    with psycopg.connect(superuser_url(tenant.server.admin_url), autocommit=True) as superuser:
        superuser.execute(sql.SQL(statement).format(**names))


# -- Through the control database --------------------------------------------------------------------------------


@pytest.mark.parametrize("log", ["tenant_log"], indirect=True)
@pytest.mark.parametrize("way", ["its status", "its identity", "its row"])
def test_a_log_hidden_by_the_control_database_is_reported(victim: Victim, way: str) -> None:
    """The application's role may make each of these three changes to the tenant's row."""
    with victim.triggers_off() as superuser:
        superuser.execute(f"UPDATE {victim.log.table} SET action = 'forged' WHERE sequence = 7")
        victim.recompute(superuser, 7)
    kept, row = Tenant.objects.get(pk=victim.tenant.pk), Tenant.objects.filter(pk=victim.tenant.pk)
    if way == "its status":
        row.update(status=TenantStatus.DELETING)
    elif way == "its identity":
        row.update(identity=uuid.uuid4(), chain_identity=kept.identity)
    else:
        row.delete()
    found = [one for one in audit_verify() if one.tenant_id == kept.pk and one.problems]
    Tenant.objects.filter(pk=kept.pk).delete()
    kept.save(force_insert=True)
    assert [(one.identity, one.problems[0].kind) for one in found] == [(kept.identity, Kind.UNREADABLE)]
