"""Manual changes of many kinds to a tenant's schema are found and named."""

import re
from collections.abc import Iterator

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from tenants.fleet.migrate import tenant_migrate
from tenants.lifecycle.create import tenant_create
from tenants.lifecycle.status import TenantHealth, tenant_statuses
from tenants.models import DatabaseServer, SchemaReference, Tenant, database_prefix
from tenants.schema.catalog import catalog_fingerprint, catalog_read, catalog_stamp, differences, named
from tenants.schema.inspection import database_of
from tenants.servers.session import ServerSession, parse_location
from tests.support.superuser import superuser_connection
from tests.support.tenant_fixtures import MakeTenant, remove
from tests.tenants.support.fleets import as_owner, catalog_of

DRIFT = {
    "table": ("CREATE TABLE extra (id int)", ["column extra.id", "grant extra", "table extra"]),
    "column": ("ALTER TABLE runs ADD COLUMN extra text", ["column runs.extra"]),
    "column type": ("ALTER TABLE steps ALTER COLUMN retry_count TYPE bigint", ["column steps.retry_count"]),
    "default": ("ALTER TABLE steps ALTER COLUMN retry_count SET DEFAULT 1", ["column steps.retry_count"]),
    "not null": ("ALTER TABLE runs ALTER COLUMN status DROP NOT NULL", ["column runs.status"]),
    "index": ("DROP INDEX runs_newest", ["index runs_newest"]),
    "constraint": ("ALTER TABLE runs DROP CONSTRAINT runs_status_check", ["constraint runs.runs_status_check"]),
    "trigger": ("DROP TRIGGER touch_run ON runs", ["trigger runs.touch_run"]),
    "disabled trigger": (
        "ALTER TABLE audit_logs DISABLE TRIGGER prevent_audit_log_modification",
        ["trigger audit_logs.prevent_audit_log_modification"],
    ),
    "function": (
        "CREATE OR REPLACE FUNCTION touch_run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        ["function touch_run()"],
    ),
    "grant": ("GRANT UPDATE ON audit_logs TO seo_gen_tenant", ["grant audit_logs"]),
    "revoked grant": ("REVOKE INSERT ON runs FROM seo_gen_tenant", ["grant runs"]),
    "grant on a column": ("GRANT UPDATE (details) ON audit_logs TO seo_gen_tenant", ["column audit_logs.details"]),
    "grant on a function": ("GRANT EXECUTE ON FUNCTION chain_audit_logs() TO PUBLIC", ["grant chain_audit_logs()"]),
    "owner": (
        "ALTER TABLE tenant_identity OWNER TO seo_gen_tenant",
        ["grant tenant_identity", "table tenant_identity"],
    ),
    "view": (
        "CREATE OR REPLACE VIEW run_costs AS SELECT id AS run_id, 0::numeric AS total_llm_cost,"
        " 0::bigint AS total_input_tokens, 0::bigint AS total_output_tokens, 0::bigint AS unpriced_steps,"
        " 0::bigint AS unknown_calls, 0::numeric AS unknown_cost_limit,"
        " NULL::jsonb AS unpriced_tokens, NULL::jsonb AS tokens_by_unit FROM runs",
        ["view run_costs"],
    ),
    "row security": ("ALTER TABLE runs ENABLE ROW LEVEL SECURITY", ["table runs"]),
    "rule": ("CREATE RULE r AS ON DELETE TO runs DO INSTEAD NOTHING", ["table runs"]),
    "type": ("CREATE TYPE mood AS ENUM ('good', 'bad')", ["type mood"]),
    "composite type": ("CREATE TYPE pair AS (a int, b int)", ["type pair"]),
    "sequence": ("ALTER SEQUENCE steps_id_seq INCREMENT 2", ["sequence steps_id_seq"]),
    "operator": (
        "CREATE OPERATOR >= (FUNCTION = int4ge, LEFTARG = int, RIGHTARG = int)",
        ["operator >=(integer,integer)"],
    ),
    "cast": (
        "CREATE TYPE colour AS ENUM ('red'); CREATE CAST (colour AS text) WITH INOUT AS IMPLICIT",
        ["cast public.colour as text", "type colour"],
    ),
    "database's owner": (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO seo_gen_tenant', current_database()); END $$",
        None,
    ),
    "schema": ("CREATE SCHEMA elsewhere", ["grant elsewhere", "schema elsewhere"]),
}


def health_of(tenant: Tenant) -> TenantHealth:
    [health] = tenant_statuses(tenant_id=tenant.id, check=True)
    return health


@pytest.fixture(scope="module")
def shared_tenant() -> Iterator[Tenant]:
    tenant = tenant_create(name="drifting")
    yield tenant
    remove(tenant)


@pytest.mark.parametrize(("statement", "objects"), DRIFT.values(), ids=DRIFT.keys())
def test_a_change_by_hand_is_named(shared_tenant: Tenant, statement: str, objects: list[str] | None) -> None:
    """Make and inspect the change in a superuser's transaction, then roll it back."""
    server = shared_tenant.server
    assert server is not None
    expected = catalog_of(shared_tenant)
    with superuser_connection(server.admin_url, database_of(shared_tenant)) as connection:
        before, stamp = catalog_fingerprint(connection), catalog_stamp(connection)
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(statement)
        assert catalog_fingerprint(connection) != before and catalog_stamp(connection) != stamp
        found = differences(expected, catalog_read(connection))
        connection.rollback()
        connection.set_autocommit(True)
        assert catalog_fingerprint(connection) == before and catalog_stamp(connection) == stamp
    names = [re.split(" is | was ", difference)[0] for difference in found]
    # Owners are compared with the database's owner, so if that changes, each of our objects has another owner.
    assert names == objects if objects is not None else {"database owner", "table runs"} <= set(names)


def test_a_new_tenant_is_what_its_migrations_make(tenant: Tenant) -> None:
    reference = SchemaReference.objects.get(server="main", version=tenant.schema_version, template__gt="")
    assert catalog_of(tenant) == reference.catalog
    health = health_of(tenant)
    assert (health.schema_state, health.drift, health.problem) == ("current", [], None)


def test_missing_reference_is_rebuilt(tenant: Tenant) -> None:
    kept = SchemaReference.objects.get(server="main", version=tenant.schema_version, template__gt="")
    SchemaReference.objects.filter(pk=kept.pk).delete()
    assert health_of(tenant).drift == []
    made = SchemaReference.objects.get(server="main", version=tenant.schema_version)
    assert (made.fingerprint, made.catalog) == (kept.fingerprint, kept.catalog)
    SchemaReference.objects.filter(pk=made.pk).update(template=kept.template)


def test_a_server_without_a_reference_is_a_problem_of_its_tenants(tenant: Tenant) -> None:
    main = DatabaseServer.objects.get(pk="main")
    role = parse_location(tenant.database_url)
    with ServerSession(main, database_prefix()) as server_session:
        url = server_session.location(role.role, role.password).url
    # A server that is the same, but whose administrator may no longer create databases.
    weak = DatabaseServer.objects.create(name=f"weak-{tenant.id}", admin_url=url, owner_password=main.owner_password)
    Tenant.objects.filter(pk=tenant.pk).update(server=weak)
    try:
        health = health_of(tenant)
    finally:
        Tenant.objects.filter(pk=tenant.pk).update(server=main)
        weak.delete()
    assert health.reachable and "permission denied to create database" in (health.problem or "")


def test_status_stores_and_shows_the_last_check(tenant: Tenant) -> None:
    with as_owner(tenant) as connection:
        connection.execute("DROP INDEX runs_newest")
    assert health_of(tenant).problem == (
        "Its schema differs from what its migrations create: index runs_newest is missing."
    )
    Tenant.objects.filter(pk=tenant.pk).update(database_url="postgresql://u:secret@127.0.0.1:9/d")
    [health] = tenant_statuses(tenant_id=tenant.id)
    assert (health.reachable, health.drift) == (None, ["index runs_newest is missing"])
    Tenant.objects.filter(pk=tenant.pk).update(database_url=tenant.database_url)


@pytest.mark.usefixtures("empty_fleet")
def test_drift_is_found_without_pending_migrations(make_tenant: MakeTenant) -> None:
    well, ill = make_tenant(), make_tenant()
    with as_owner(ill) as connection:
        connection.execute("ALTER TABLE runs ADD COLUMN extra text")
    report = tenant_migrate()
    assert report.problems == [
        f"Tenant {ill.id}: Its schema differs from what its migrations create: column runs.extra is unexpected."
    ]
    assert Tenant.objects.get(pk=well.pk).schema_drift == []
    assert Tenant.objects.get(pk=ill.pk).schema_drift == ["column runs.extra is unexpected"]


def test_long_lists_are_cut() -> None:
    assert named([f"table t{number} is missing" for number in range(7)]).endswith("table t4 is missing; and 2 more")


@pytest.mark.usefixtures("empty_fleet")
def test_fingerprint_is_recomputed_only_after_a_change(
    make_tenant: MakeTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, touched = make_tenant(), make_tenant()
    assert tenant_migrate().problems == []
    with as_owner(touched) as connection:
        connection.execute(
            "COMMENT ON TABLE runs IS 'no change'; ALTER TABLE runs RENAME TO x; ALTER TABLE x RENAME TO runs"
        )
    with as_owner(still) as connection:
        connection.execute("INSERT INTO runs (status) VALUES ('completed'); ANALYZE")
    computed: list[object] = []

    def spy(connection: BaseDatabaseWrapper) -> str:
        computed.append(connection.settings_dict["NAME"])
        return catalog_fingerprint(connection)

    monkeypatch.setattr("tenants.schema.inspection.catalog_fingerprint", spy)
    assert tenant_migrate().problems == []
    assert computed == [database_of(touched)]
    assert tenant_migrate().problems == []
    assert computed == [database_of(touched)]
